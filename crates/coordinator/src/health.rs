//! The gRPC health service: whether this replica answers, and whether it is the active one.

use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::services::jobs::Answers;

/// The service as tonic has it, but that its streams end when the coordinator stops.
pub(crate) struct Ending {
    health: HealthService,
    stop: CancellationToken,
}

/// Tells what `reporter` is told, until `stop` is cancelled.
pub(crate) fn service(reporter: &HealthReporter, stop: CancellationToken) -> HealthServer<Ending> {
    let health = HealthService::from_health_reporter(reporter.clone());
    HealthServer::new(Ending { health, stop })
}

#[tonic::async_trait]
impl Health for Ending {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.health.check(request).await
    }

    type WatchStream = Answers<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers = self.health.watch(request).await?.into_inner();
        let answers = answers.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }
}
