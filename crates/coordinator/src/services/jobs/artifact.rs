//! Sending one picture file.

use bytes::Bytes;
use futures::stream;
use seedfarm_core::ArtifactDigest;
use seedfarm_proto::{CHUNK_BYTES, v1};
use tonic::Status;

use super::Answers;
use crate::farm::Farm;
use crate::faults::{self, not_found};
use crate::services::read;

pub(super) async fn fetch(farm: &Farm, digest: &str) -> Result<Answers<v1::FetchArtifactResponse>, Status> {
    let digest: ArtifactDigest = read(digest)?;
    let bytes = farm.blob.get(&digest).await.map_err(faults::of_blob)?;
    let bytes = bytes.ok_or_else(|| {
        let message =
            format!("the file {digest} is not stored, or was damaged: replay its image to make it again");
        not_found("ARTIFACT_NOT_FOUND", message)
    })?;
    Ok(Box::pin(stream::iter(chunks(&bytes).map(Ok))))
}

fn chunks(bytes: &Bytes) -> impl Iterator<Item = v1::FetchArtifactResponse> + use<> {
    let bytes = bytes.clone();
    (0..bytes.len()).step_by(CHUNK_BYTES).map(move |from| {
        let data = bytes.slice(from..bytes.len().min(from + CHUNK_BYTES));
        v1::FetchArtifactResponse { chunk: Some(v1::Chunk { data: data.to_vec() }) }
    })
}
