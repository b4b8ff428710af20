//! A client of the farm: one connection, one token, one client for each service.

pub mod download;
pub mod follow;
pub mod packages;
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
use seedfarm_proto::v1::worker_service_server::SERVICE_NAME;
use seedfarm_runtime::{Bearer, Replicas, endpoint};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Error as TransportError};

use crate::args::ClientArgs;
use crate::args::data::CLIENT_TOKEN;
use crate::failure::Failure;

/// How long a call may wait for its answer to begin.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long several coordinators may take to have an active one among them: longer than a takeover.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// What carries every call.
pub type Wire = InterceptedService<Replicas, Bearer>;

/// A connection to the coordinators. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Farm {
    wire: Wire,
}

impl Farm {
    /// Connects, with the client token of `args`.
    ///
    /// # Errors
    /// If there is no token, an address is none, or nobody answers at any.
    pub async fn connect(args: &ClientArgs) -> Result<Self> {
        let token = args.token(CLIENT_TOKEN)?;
        match args.coordinator.as_slice() {
            [url] => Self::open(url, args.tls_ca.as_deref(), &token).await,
            urls => Self::open_any(urls, args.tls_ca.as_deref(), &token).await,
        }
    }

    /// Connects to the coordinator at `url`.
    ///
    /// # Errors
    /// If the address or the token is none, or nobody answers there.
    pub async fn open(url: &str, authority: Option<&std::path::Path>, token: &str) -> Result<Self> {
        let endpoint = endpoint::endpoint(url, authority)?.timeout(CALL_TIMEOUT);
        let bearer = Bearer::new(token)?;
        let channel = endpoint.connect().await.map_err(|error| unreachable(url, &error))?;
        Ok(Self { wire: InterceptedService::new(Replicas::one(channel), bearer) })
    }

    /// Connects to whichever of the coordinators at `urls` is active, or else to one that answers.
    async fn open_any(urls: &[String], authority: Option<&std::path::Path>, token: &str) -> Result<Self> {
        let endpoints = endpoint::endpoints(urls, authority)?;
        let endpoints: Vec<Endpoint> =
            endpoints.into_iter().map(|endpoint| endpoint.timeout(CALL_TIMEOUT)).collect();
        let bearer = Bearer::new(token)?;
        let replicas = Replicas::new(&endpoints, SERVICE_NAME);
        if !replicas.ready(TAKEOVER_TIMEOUT).await {
            // Asked once more, for the cause.
            for (url, endpoint) in urls.iter().zip(&endpoints) {
                endpoint.connect().await.map_err(|error| unreachable(url, &error))?;
            }
        }
        Ok(Self { wire: InterceptedService::new(replicas, bearer) })
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
        ModelServiceClient::new(self.wire.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
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
