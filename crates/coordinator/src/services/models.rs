//! ModelService.

use std::sync::Arc;

use seedfarm_core::ModelManifest;
use seedfarm_proto::v1::{self, model_service_server::ModelService};
use tonic::{Request, Response, Status};

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
}

impl Models {
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
