//! What a submission or a replay may draw on: adapters that workers have shown, pictures that were uploaded.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use seedfarm_core::plan::{Catalogue, JobSpec, PictureSize, Settings};
use seedfarm_core::settings::PictureRef;
use seedfarm_core::{AdapterManifest, ArtifactDigest};
use tonic::Status;

use crate::farm::Farm;
use crate::faults;

/// Files that are looked for at once.
const LOOKS: usize = 16;

/// The catalogue for a submission: with every adapter, and those pictures that its lines name.
pub(crate) async fn of_job(farm: &Farm, spec: &JobSpec) -> Result<Catalogue, Status> {
    let settings = || std::iter::once(&spec.settings).chain(spec.prompts.iter().map(|line| &line.settings));
    let names: BTreeSet<&str> = settings().flat_map(adapter_names).collect();
    let adapters = if names.is_empty() { Vec::new() } else { adapters(farm, &names).await? };
    let named = settings().flat_map(Settings::pictures).filter_map(|picture| match picture {
        PictureRef::Digest(digest) => Some(*digest),
        PictureRef::Path(_) => None,
    });
    let named: BTreeSet<ArtifactDigest> = named.collect();
    Ok(Catalogue { adapters, pictures: pictures(farm, named.into_iter().collect()).await? })
}

/// Names and digests of adapters that settings name.
fn adapter_names(settings: &Settings) -> impl Iterator<Item = &str> {
    let loras = settings.loras.iter().flatten().map(|lora| lora.name.as_str());
    let controls = settings.controls.iter().flatten().map(|control| control.name.as_str());
    loras.chain(controls).chain(settings.embeddings.iter().flatten().map(String::as_str))
}

/// The adapters that `names` may mean: of several files of one kind and name those that connected workers
/// have, or else the newest; and those that are named by their digests.
async fn adapters(farm: &Farm, names: &BTreeSet<&str>) -> Result<Vec<AdapterManifest>, Status> {
    let all = farm.store.adapters().await.map_err(faults::of_store)?;
    let board = farm.board();
    let is_there = |adapter: &AdapterManifest| board.workers_with_adapter(adapter.digest) > 0;
    let mut chosen: Vec<AdapterManifest> = Vec::new();
    for same in all.chunk_by(|a, b| (a.kind, &a.name) == (b.kind, &b.name)) {
        let nowhere = !same.iter().any(is_there);
        let counts = |(at, adapter): &(usize, &AdapterManifest)| {
            is_there(adapter) || (nowhere && *at == 0) || names.contains(adapter.digest.to_string().as_str())
        };
        chosen.extend(same.iter().enumerate().filter(counts).map(|(_, adapter)| adapter.clone()));
    }
    Ok(chosen)
}

/// The sizes of those pictures that were uploaded and whose bytes are there.
pub(crate) async fn pictures(
    farm: &Farm,
    named: Vec<ArtifactDigest>,
) -> Result<BTreeMap<ArtifactDigest, PictureSize>, Status> {
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let known = farm.store.pictures(&named).await.map_err(faults::of_store)?;
    let look = |(digest, size)| async move {
        let bytes = farm.blob.size(&digest).await.map_err(faults::of_blob)?;
        Ok::<_, Status>(bytes.map(|_| (digest, size)))
    };
    let there: Vec<_> = stream::iter(known).map(look).buffered(LOOKS).try_collect().await?;
    Ok(there.into_iter().flatten().collect())
}
