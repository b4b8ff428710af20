//! ModelService.

use std::sync::Arc;

use seedfarm_core::{AdapterManifest, ModelManifest};
use seedfarm_proto::v1::{self, model_service_server::ModelService};
use tonic::{Request, Response, Status, Streaming};

use super::jobs::Answers;
use super::packages::{registry, upload, verify};
use crate::farm::Farm;
use crate::faults;

/// See [`ModelService`].
pub(crate) struct Models(pub(crate) Arc<Farm>);

#[tonic::async_trait]
impl ModelService for Models {
    async fn list_models(
        &self,
        _: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let models = self.0.store.models().await.map_err(faults::of_store)?;
        let models = models.iter().map(|manifest| self.describe(manifest)).collect();
        Ok(Response::new(v1::ListModelsResponse { models }))
    }

    async fn list_adapters(
        &self,
        _: Request<v1::ListAdaptersRequest>,
    ) -> Result<Response<v1::ListAdaptersResponse>, Status> {
        let adapters = self.0.store.adapters().await.map_err(faults::of_store)?;
        let adapters = adapters.into_iter().map(|manifest| self.describe_adapter(manifest)).collect();
        Ok(Response::new(v1::ListAdaptersResponse { adapters }))
    }

    async fn find_model_files(
        &self,
        request: Request<v1::FindModelFilesRequest>,
    ) -> Result<Response<v1::FindModelFilesResponse>, Status> {
        upload::find(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn put_model_part(
        &self,
        request: Request<Streaming<v1::PutModelPartRequest>>,
    ) -> Result<Response<v1::PutModelPartResponse>, Status> {
        upload::put_part(&self.0, request.into_inner()).await.map(Response::new)
    }

    type SealModelFileStream = Answers<v1::SealModelFileResponse>;

    async fn seal_model_file(
        &self,
        request: Request<v1::SealModelFileRequest>,
    ) -> Result<Response<Self::SealModelFileStream>, Status> {
        upload::seal(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn add_package(
        &self,
        request: Request<v1::AddPackageRequest>,
    ) -> Result<Response<v1::AddPackageResponse>, Status> {
        registry::add(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_packages(
        &self,
        _: Request<v1::ListPackagesRequest>,
    ) -> Result<Response<v1::ListPackagesResponse>, Status> {
        registry::list(&self.0).await.map(Response::new)
    }

    async fn remove_package(
        &self,
        request: Request<v1::RemovePackageRequest>,
    ) -> Result<Response<v1::RemovePackageResponse>, Status> {
        registry::remove(&self.0, &request.into_inner().package).await.map(Response::new)
    }

    type VerifyPackageStream = Answers<v1::VerifyPackageResponse>;

    async fn verify_package(
        &self,
        request: Request<v1::VerifyPackageRequest>,
    ) -> Result<Response<Self::VerifyPackageStream>, Status> {
        verify::verify(&self.0, &request.into_inner().package).await.map(Response::new)
    }
}

impl Models {
    fn describe_adapter(&self, manifest: AdapterManifest) -> v1::Adapter {
        let workers = self.0.board().workers_with_adapter(manifest.digest);
        v1::Adapter {
            kind: manifest.kind.as_str().to_owned(),
            name: manifest.name,
            digest: manifest.digest.to_string(),
            family: manifest.family,
            bytes: manifest.bytes,
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
        }
    }

    fn describe(&self, manifest: &ModelManifest) -> v1::Model {
        let digest = manifest.digest();
        let workers = self.0.board().workers_with(digest);
        v1::Model {
            name: manifest.name.clone(),
            digest: digest.to_string(),
            manifest_json: seedfarm_core::canonical::to_string(manifest),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
        }
    }
}
