//! A client of the farm: one connection, one token, one client for each service.

pub mod download;
pub mod follow;
pub mod replay;
pub mod upload;

use std::error::Error as StdError;
use std::time::Duration;

use anyhow::Result;
use seedfarm_proto::MAX_MESSAGE_BYTES;
use seedfarm_proto::v1::farm_service_client::FarmServiceClient;
use seedfarm_proto::v1::job_service_client::JobServiceClient;
use seedfarm_proto::v1::model_service_client::ModelServiceClient;
use seedfarm_proto::v1::replay_service_client::ReplayServiceClient;
use seedfarm_runtime::{Bearer, endpoint};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Error as TransportError};

use crate::args::ClientArgs;
use crate::args::data::CLIENT_TOKEN;
use crate::failure::Failure;

/// How long a call may wait for its answer to begin.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What carries every call.
pub type Wire = InterceptedService<Channel, Bearer>;

/// A connection to a coordinator. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Farm {
    wire: Wire,
}

impl Farm {
    /// Connects, with the client token of `args`.
    ///
    /// # Errors
    /// If there is no token, the address is none, or nobody answers there.
    pub async fn connect(args: &ClientArgs) -> Result<Self> {
        Self::open(&args.coordinator, args.tls_ca.as_deref(), &args.token(CLIENT_TOKEN)?).await
    }

    /// Connects to the coordinator at `url`.
    ///
    /// # Errors
    /// If the address or the token is none, or nobody answers there.
    pub async fn open(url: &str, authority: Option<&std::path::Path>, token: &str) -> Result<Self> {
        let endpoint = endpoint::endpoint(url, authority)?.timeout(CALL_TIMEOUT);
        let bearer = Bearer::new(token)?;
        let channel = endpoint.connect().await.map_err(|error| unreachable(url, &error))?;
        Ok(Self { wire: InterceptedService::new(channel, bearer) })
    }

    /// Jobs and their images.
    pub fn jobs(&self) -> JobServiceClient<Wire> {
        JobServiceClient::new(self.wire.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Replays.
    pub fn replays(&self) -> ReplayServiceClient<Wire> {
        ReplayServiceClient::new(self.wire.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Models.
    pub fn models(&self) -> ModelServiceClient<Wire> {
        ModelServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The farm as a whole.
    pub fn farm(&self) -> FarmServiceClient<Wire> {
        FarmServiceClient::new(self.wire.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// Nobody answers, or TLS fails: the last is no matter of time.
fn unreachable(url: &str, error: &TransportError) -> Failure {
    let cause = root(error);
    if cause.contains("certificate") || cause.contains("handshake") || cause.contains("corrupt message") {
        let way_out =
            "give the certificate authority with --tls-ca, and https:// or http:// as the coordinator has it";
        return Failure::failed("TLS_FAILED", format!("no safe connection to {url} ({cause}): {way_out}"));
    }
    let way_out =
        "start one with 'seedfarm up' or 'seedfarm coordinator', or give its address with --coordinator";
    Failure::try_again(
        "COORDINATOR_UNREACHABLE",
        format!("no coordinator answers at {url} ({cause}): {way_out}"),
    )
}

/// The innermost cause, which says most.
fn root(error: &TransportError) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
