//! WorkerService.

mod complete;
mod hello;
mod picture;
mod progress;
mod session;
mod stocked;
mod update;
mod upload;

use std::sync::Arc;

use seedfarm_proto::v1::{self, worker_service_server::WorkerService};
use tonic::{Request, Response, Status, Streaming};

use super::jobs::Answers;
use super::packages::send;
use crate::farm::Farm;

/// See [`WorkerService`].
pub(crate) struct Workers(pub(crate) Arc<Farm>);

#[tonic::async_trait]
impl WorkerService for Workers {
    type SessionStream = Answers<v1::SessionResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        session::open(&self.0, request.into_inner()).map(Response::new)
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        upload::put(&self.0, request.into_inner()).await.map(Response::new)
    }

    type FetchPictureStream = Answers<v1::FetchPictureResponse>;

    async fn fetch_picture(
        &self,
        request: Request<v1::FetchPictureRequest>,
    ) -> Result<Response<Self::FetchPictureStream>, Status> {
        picture::fetch(&self.0, &request.into_inner().digest).await.map(Response::new)
    }

    async fn describe_package(
        &self,
        request: Request<v1::DescribePackageRequest>,
    ) -> Result<Response<v1::DescribePackageResponse>, Status> {
        send::describe(&self.0, &request.into_inner().package_digest).await.map(Response::new)
    }

    type FetchModelFileStream = Answers<v1::FetchModelFileResponse>;

    async fn fetch_model_file(
        &self,
        request: Request<v1::FetchModelFileRequest>,
    ) -> Result<Response<Self::FetchModelFileStream>, Status> {
        send::file(&self.0, request.into_inner()).await.map(Response::new)
    }
}
