//! Sending one picture file.

use futures::stream;
use seedfarm_core::ArtifactDigest;
use seedfarm_proto::v1;
use tonic::Status;

use super::Answers;
use crate::farm::Farm;
use crate::faults::{self, not_found};
use crate::services::{chunks, read};

pub(super) async fn fetch(farm: &Farm, digest: &str) -> Result<Answers<v1::FetchArtifactResponse>, Status> {
    let digest: ArtifactDigest = read(digest)?;
    let bytes = farm.blob.get(&digest).await.map_err(faults::of_blob)?;
    let bytes = bytes.ok_or_else(|| {
        let message =
            format!("the file {digest} is not stored, or was damaged: replay its image to make it again");
        not_found("ARTIFACT_NOT_FOUND", message)
    })?;
    let message = |chunk| Ok(v1::FetchArtifactResponse { chunk: Some(chunk) });
    Ok(Box::pin(stream::iter(chunks::of(&bytes).map(message))))
}
