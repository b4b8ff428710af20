//! Taking in one picture that jobs may start from or follow: it is read as a picture before it is stored.

use bytes::Bytes;
use futures::TryStreamExt;
use seedfarm_core::ArtifactDigest;
use seedfarm_core::plan::PictureSize;
use seedfarm_proto::{error, v1};
use seedfarm_store::NewPicture;
use tonic::{Code, Status, Streaming};

use crate::farm::Farm;
use crate::faults;
use crate::services::{chunks, read};

pub(super) async fn put(
    farm: &Farm,
    mut messages: Streaming<v1::PutPictureRequest>,
) -> Result<v1::PutPictureResponse, Status> {
    let _turn = chunks::turn(farm).await?;
    let first = chunks::next(&mut messages).await?.ok_or_else(|| error::missing("its first chunk"))?;
    let told = Some(first.digest).filter(|digest| !digest.is_empty());
    let told = told.map(|digest| read::<ArtifactDigest>(&digest)).transpose()?;
    let bytes = chunks::receive(first.chunk, &mut messages.map_ok(|message| message.chunk)).await?;
    let digest = ArtifactDigest::of_bytes(&bytes);
    if let Some(told) = told.filter(|told| *told != digest) {
        return Err(chunks::wrong_digest(digest, told));
    }
    let size = size_of(farm, bytes.clone()).await?;
    let picture = NewPicture { digest, size, bytes: bytes.len() as u64 };
    farm.blob.put(&digest, bytes).await.map_err(faults::of_blob)?;
    let new = farm.store.put_picture(&picture).await.map_err(faults::of_store)?;
    let PictureSize { width, height } = size;
    Ok(v1::PutPictureResponse { digest: digest.to_string(), width, height, known: !new })
}

/// The sides of the picture in a file; a file that holds none is refused.
async fn size_of(farm: &Farm, file: Bytes) -> Result<PictureSize, Status> {
    let _turn = farm.decoding.acquire().await.map_err(|_| faults::stopping())?;
    // Decoding a large picture takes a while, and nobody else should wait for it.
    let decoded = tokio::task::spawn_blocking(move || seedfarm_picture::decode(&file)).await;
    let picture = decoded
        .map_err(|_| faults::stopping())?
        .map_err(|fault| error::status(Code::InvalidArgument, "NOT_A_PICTURE", chain(&fault)))?;
    Ok(PictureSize { width: picture.width(), height: picture.height() })
}

/// A fault with its cause, as one line.
fn chain(fault: &seedfarm_picture::PictureError) -> String {
    match std::error::Error::source(fault) {
        Some(cause) => format!("{fault}: {cause}"),
        None => fault.to_string(),
    }
}
