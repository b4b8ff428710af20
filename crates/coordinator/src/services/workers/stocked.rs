//! A worker has other models than it said: they are stored as at Hello, and the board follows.

use seedfarm_core::{AdapterManifest, ModelManifest, WorkerId};
use seedfarm_proto::v1;
use tokio::time::Instant;
use tonic::Status;

use super::hello::{self, check_count};
use crate::board::{Restock, SessionId};
use crate::farm::Farm;
use crate::faults;
use crate::services::read;

/// Most models and adapters of one message.
const MOST: usize = 10_000;

pub(super) async fn receive(
    farm: &Farm,
    worker: WorkerId,
    id: SessionId,
    stocked: v1::Stocked,
) -> Result<(), Status> {
    check_count("models", stocked.model_manifests_json.len(), MOST)?;
    check_count("adapters", stocked.adapters_json.len(), MOST)?;
    check_count("removed models", stocked.removed_digests.len(), MOST)?;
    check_count("declined models", stocked.declined.len(), MOST)?;
    let models = stocked.model_manifests_json.iter().map(|json| hello::manifest(json));
    let models: Vec<ModelManifest> = models.collect::<Result<_, _>>()?;
    let adapters = stocked.adapters_json.iter().map(|json| hello::adapter(json));
    let adapters: Vec<AdapterManifest> = adapters.collect::<Result<_, _>>()?;
    let change = Restock {
        models: models.iter().map(ModelManifest::digest).collect(),
        adapters: adapters.iter().map(|adapter| adapter.digest).collect(),
        removed: stocked.removed_digests.iter().map(|digest| read(digest)).collect::<Result<_, _>>()?,
        declined: stocked
            .declined
            .iter()
            .map(|declined| read(&declined.package_digest))
            .collect::<Result<_, _>>()?,
    };
    for declined in &stocked.declined {
        let reason: String = declined.reason.chars().take(MOST / 10).collect();
        tracing::warn!(worker.id = %worker, package.digest = declined.package_digest, reason, "a worker cannot fetch a model");
    }
    farm.store.put_models(&models).await.map_err(faults::of_store)?;
    farm.store.put_adapters(&adapters).await.map_err(faults::of_store)?;
    farm.board().restock(worker, id, &change, Instant::now());
    farm.wake.notify_one();
    Ok(())
}
