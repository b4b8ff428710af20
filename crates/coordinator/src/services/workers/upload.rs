//! Taking in one picture file: it is stored only if it is what its digest says, and not too large.

use futures::TryStreamExt;
use seedfarm_blob::Stored;
use seedfarm_core::ArtifactDigest;
use seedfarm_proto::{error, v1};
use tonic::{Status, Streaming};

use crate::farm::Farm;
use crate::faults;
use crate::services::{chunks, read};

pub(super) async fn put(
    farm: &Farm,
    mut messages: Streaming<v1::PutArtifactRequest>,
) -> Result<v1::PutArtifactResponse, Status> {
    let _turn = chunks::turn(farm).await?;
    let first = chunks::next(&mut messages).await?.ok_or_else(|| error::missing("its first chunk"))?;
    let digest: ArtifactDigest = read(&first.artifact_digest)?;
    let bytes = chunks::receive(first.chunk, &mut messages.map_ok(|message| message.chunk)).await?;
    let actual = ArtifactDigest::of_bytes(&bytes);
    if actual != digest {
        return Err(chunks::wrong_digest(actual, digest));
    }
    let size = bytes.len() as u64;
    // Looked at while it is in memory; what it is held against comes with the completion.
    drop(farm.inspection.of(digest, bytes.clone()).await.ok_or_else(faults::stopping)?);
    let stored = farm.blob.put(&digest, bytes).await.map_err(faults::of_blob)?;
    farm.arrivals.put(digest, size);
    Ok(v1::PutArtifactResponse { known: stored == Stored::Known })
}
