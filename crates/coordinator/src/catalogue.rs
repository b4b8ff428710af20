//! What a submission or a replay may draw on: adapters that workers have shown, pictures that were uploaded.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use seedfarm_core::ArtifactDigest;
use seedfarm_core::plan::{Catalogue, JobSpec, PictureSize, Settings};
use seedfarm_core::settings::PictureRef;
use tonic::Status;

use crate::farm::Farm;
use crate::faults;

/// Files that are looked for at once.
const LOOKS: usize = 16;

/// The catalogue for a submission: with every adapter, and those pictures that its lines name.
pub(crate) async fn of_job(farm: &Farm, spec: &JobSpec) -> Result<Catalogue, Status> {
    let settings = || std::iter::once(&spec.settings).chain(spec.prompts.iter().map(|line| &line.settings));
    let adapters = match settings().any(names_adapters) {
        true => farm.store.adapters().await.map_err(faults::of_store)?,
        false => Vec::new(),
    };
    let named = settings().flat_map(Settings::pictures).filter_map(|picture| match picture {
        PictureRef::Digest(digest) => Some(*digest),
        PictureRef::Path(_) => None,
    });
    let named: BTreeSet<ArtifactDigest> = named.collect();
    Ok(Catalogue { adapters, pictures: pictures(farm, named.into_iter().collect()).await? })
}

fn names_adapters(settings: &Settings) -> bool {
    settings.loras.is_some() || settings.embeddings.is_some() || settings.controls.is_some()
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
