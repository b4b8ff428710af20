//! Who calls: the bearer token of the HTTP request, passed on to the coordinator.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use seedfarm_proto::MAX_MESSAGE_BYTES;
use seedfarm_proto::v1::farm_service_client::FarmServiceClient;
use seedfarm_proto::v1::job_service_client::JobServiceClient;
use seedfarm_proto::v1::model_service_client::ModelServiceClient;
use seedfarm_proto::v1::replay_service_client::ReplayServiceClient;
use seedfarm_runtime::{CancellationToken, Replicas};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::Gateway;
use crate::error::ApiError;

/// Copies the caller's `authorization` header, if there is one, onto the gRPC request.
#[derive(Clone)]
pub(crate) struct PassOn(Option<MetadataValue<Ascii>>);

impl Interceptor for PassOn {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Service = InterceptedService<Replicas, PassOn>;

/// The caller's own connection to the coordinators.
pub(crate) struct Caller {
    coordinators: Replicas,
    pass_on: PassOn,
    /// Ends streams when the gateway stops.
    pub(crate) shutdown: CancellationToken,
}

impl Caller {
    fn service(self) -> Service {
        InterceptedService::new(self.coordinators, self.pass_on)
    }

    pub(crate) fn jobs(self) -> JobServiceClient<Service> {
        JobServiceClient::new(self.service())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn replays(self) -> ReplayServiceClient<Service> {
        ReplayServiceClient::new(self.service()).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn models(self) -> ModelServiceClient<Service> {
        ModelServiceClient::new(self.service())
    }

    pub(crate) fn farm(self) -> FarmServiceClient<Service> {
        FarmServiceClient::new(self.service())
    }
}

impl FromRequestParts<Gateway> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let token = header.map(|bytes| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()));
        match token {
            Some(None) => Err(ApiError::bad_request("the authorization header is not plain ASCII")),
            token => Ok(Self {
                coordinators: gateway.coordinators.clone(),
                pass_on: PassOn(token.flatten()),
                shutdown: gateway.shutdown.clone(),
            }),
        }
    }
}
