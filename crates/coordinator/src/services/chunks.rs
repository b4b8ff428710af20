//! Files on their way in and out, a chunk a message.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use seedfarm_core::limits;
use seedfarm_proto::{CHUNK_BYTES, error, v1};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::farm::Farm;
use crate::faults;

/// How long an upload may wait for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long a sender may take for one chunk.
const CHUNK: Duration = Duration::from_secs(30);

/// Waits for a turn to take a file in. It must be held until the file is stored.
pub(crate) async fn turn(farm: &Farm) -> Result<SemaphorePermit<'_>, Status> {
    let busy = |_| {
        let message = "too many files are on their way in: try again";
        error::try_again("UPLOADS_BUSY", message, Duration::from_secs(1))
    };
    timeout(TURN, farm.uploads.acquire()).await.map_err(busy)?.map_err(|_| faults::stopping())
}

/// The next message of an upload; a sender that has gone silent is given up.
pub(crate) async fn next<T>(
    messages: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Result<Option<T>, Status> {
    let late = |_| {
        let message = format!("no chunk came for {} seconds: send the file again", CHUNK.as_secs());
        error::status(Code::DeadlineExceeded, "UPLOAD_STALLED", message)
    };
    timeout(CHUNK, messages.next()).await.map_err(late)?.transpose()
}

/// The whole file, of which `first` has come already.
pub(crate) async fn receive(
    first: Option<v1::Chunk>,
    rest: &mut (impl Stream<Item = Result<Option<v1::Chunk>, Status>> + Unpin),
) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    let mut message = Some(first);
    while let Some(chunk) = message {
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
        message = next(rest).await?;
    }
    Ok(bytes.freeze())
}

/// The refusal of a file that is not what its digest says.
pub(crate) fn wrong_digest(actual: impl std::fmt::Display, told: impl std::fmt::Display) -> Status {
    let message =
        format!("the file has the digest {actual}, not {told}: it was damaged on its way, send it again");
    error::status(Code::InvalidArgument, "WRONG_DIGEST", message)
}

/// The chunks of a file, in order.
pub(crate) fn of(bytes: &Bytes) -> impl Iterator<Item = v1::Chunk> + use<> {
    let bytes = bytes.clone();
    (0..bytes.len()).step_by(CHUNK_BYTES).map(move |from| {
        let data = bytes.slice(from..bytes.len().min(from + CHUNK_BYTES));
        v1::Chunk { data: data.to_vec() }
    })
}
