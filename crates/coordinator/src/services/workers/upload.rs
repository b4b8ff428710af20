//! Taking in one picture file: it is stored only if it is what its digest says, and not too large.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use seedfarm_blob::Stored;
use seedfarm_core::{ArtifactDigest, limits};
use seedfarm_proto::{CHUNK_BYTES, error, v1};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::farm::Farm;
use crate::faults;
use crate::services::read;

/// How long an upload may wait for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long a sender may take for one chunk.
const CHUNK: Duration = Duration::from_secs(30);

pub(super) async fn put(
    farm: &Farm,
    mut chunks: Streaming<v1::PutArtifactRequest>,
) -> Result<v1::PutArtifactResponse, Status> {
    let turn = timeout(TURN, farm.uploads.acquire()).await;
    let _turn = turn.map_err(|_| busy())?.map_err(|_| faults::stopping())?;
    let first = next(&mut chunks).await?.ok_or_else(|| error::missing("its first chunk"))?;
    let digest: ArtifactDigest = read(&first.artifact_digest)?;
    let bytes = receive(first, &mut chunks).await?;
    let actual = ArtifactDigest::of_bytes(&bytes);
    if actual != digest {
        let message = format!(
            "the file has the digest {actual}, not {digest}: it was damaged on its way, send it again"
        );
        return Err(error::status(Code::InvalidArgument, "WRONG_DIGEST", message));
    }
    let stored = farm.blob.put(&digest, bytes).await.map_err(faults::of_blob)?;
    Ok(v1::PutArtifactResponse { known: stored == Stored::Known })
}

async fn receive(
    first: v1::PutArtifactRequest,
    chunks: &mut Streaming<v1::PutArtifactRequest>,
) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    let mut message = Some(first);
    while let Some(v1::PutArtifactRequest { chunk, .. }) = message {
        let data = chunk.unwrap_or_default().data;
        if data.len() > CHUNK_BYTES {
            let text = format!("a chunk has {} bytes, more than the limit of {CHUNK_BYTES}", data.len());
            return Err(error::status(Code::InvalidArgument, "CHUNK_TOO_LARGE", text));
        }
        if bytes.len() + data.len() > limits::MAX_ARTIFACT_BYTES {
            let text = format!("the file is larger than the limit of {} bytes", limits::MAX_ARTIFACT_BYTES);
            return Err(error::status(Code::InvalidArgument, "ARTIFACT_TOO_LARGE", text));
        }
        bytes.extend_from_slice(&data);
        message = next(chunks).await?;
    }
    Ok(bytes.freeze())
}

async fn next(
    chunks: &mut Streaming<v1::PutArtifactRequest>,
) -> Result<Option<v1::PutArtifactRequest>, Status> {
    let late = |_| {
        let message = format!("no chunk came for {} seconds: send the file again", CHUNK.as_secs());
        error::status(Code::DeadlineExceeded, "UPLOAD_STALLED", message)
    };
    timeout(CHUNK, chunks.message()).await.map_err(late)?
}

fn busy() -> Status {
    error::try_again("UPLOADS_BUSY", "too many files are on their way in: try again", Duration::from_secs(1))
}
