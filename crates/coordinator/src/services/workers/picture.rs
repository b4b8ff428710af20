//! Sending a worker one uploaded picture. What images were made of is not a worker's to read.

use futures::stream;
use seedfarm_core::ArtifactDigest;
use seedfarm_proto::v1;
use tonic::Status;

use super::super::jobs::Answers;
use crate::farm::Farm;
use crate::faults::{self, not_found};
use crate::services::{chunks, read};

pub(super) async fn fetch(farm: &Farm, digest: &str) -> Result<Answers<v1::FetchPictureResponse>, Status> {
    let digest: ArtifactDigest = read(digest)?;
    let known = farm.store.pictures(&[digest]).await.map_err(faults::of_store)?;
    let bytes = match known.contains_key(&digest) {
        true => farm.blob.get(&digest).await.map_err(faults::of_blob)?,
        false => None,
    };
    let bytes = bytes.ok_or_else(|| {
        let message = format!("the picture {digest} is not on the farm, or was damaged: upload it again");
        not_found("PICTURE_NOT_FOUND", message)
    })?;
    let message = |chunk| Ok(v1::FetchPictureResponse { chunk: Some(chunk) });
    Ok(Box::pin(stream::iter(chunks::of(&bytes).map(message))))
}
