//! Connections to a farm that may have several coordinators, any of which may be away.

use std::time::Duration;

use anyhow::{Context, Result};
use seedfarm_proto::MAX_MESSAGE_BYTES;
use seedfarm_proto::v1::job_service_client::JobServiceClient;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_runtime::{Bearer, endpoint};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// How long a call may take.
pub const CALL: Duration = Duration::from_secs(5);

/// The wire with a token.
pub type Wire = InterceptedService<Channel, Bearer>;

/// The worker service of one coordinator, connected when it is first used.
///
/// # Errors
/// If the address or the token cannot be read.
pub fn worker(url: &str, token: &str) -> Result<WorkerServiceClient<Wire>> {
    Ok(WorkerServiceClient::new(wire(url, token)?).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// The job service of one coordinator, connected when it is first used.
///
/// # Errors
/// If the address or the token cannot be read.
pub fn jobs(url: &str, token: &str) -> Result<JobServiceClient<Wire>> {
    Ok(JobServiceClient::new(wire(url, token)?).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

fn wire(url: &str, token: &str) -> Result<Wire> {
    let channel = endpoint::endpoint(url, None)?.connect_timeout(CALL).connect_lazy();
    let bearer = Bearer::new(token).context("the token cannot be sent")?;
    Ok(InterceptedService::new(channel, bearer))
}

/// Addresses of coordinators, of which one is tried at a time.
#[derive(Debug, Clone)]
pub struct Places<T> {
    places: Vec<T>,
    at: usize,
}

impl<T> Places<T> {
    /// Begins with the first.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(places: Vec<T>) -> Result<Self> {
        anyhow::ensure!(!places.is_empty(), "no coordinator is named");
        Ok(Self { places, at: 0 })
    }

    /// The one that is tried now.
    pub fn now(&self) -> &T {
        &self.places[self.at]
    }

    /// Tries the next one.
    pub fn rotate(&mut self) {
        self.at = (self.at + 1) % self.places.len();
    }
}
