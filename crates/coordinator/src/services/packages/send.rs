//! Giving packages to workers: what they are, and their files from any byte on.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use seedfarm_blob::BlobError;
use seedfarm_core::{FileDigest, PackageDigest, canonical};
use seedfarm_proto::{CHUNK_BYTES, error, v1};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::super::jobs::Answers;
use crate::farm::Farm;
use crate::faults;
use crate::services::read;

/// How long a worker may take to read one chunk.
const STALL: Duration = Duration::from_secs(60);

type Told = mpsc::Sender<Result<v1::FetchModelFileResponse, Status>>;

/// What a package is and which files it has.
pub(crate) async fn describe(farm: &Farm, digest: &str) -> Result<v1::DescribePackageResponse, Status> {
    let digest: PackageDigest = read(digest)?;
    let package = farm.store.package(&digest).await.map_err(faults::of_store)?;
    let package = package.ok_or_else(|| {
        faults::not_found("PACKAGE_NOT_FOUND", format!("the farm does not hand out {digest} any more"))
    })?;
    Ok(v1::DescribePackageResponse { package_json: canonical::to_string(&package) })
}

/// Sends a file from `offset` on. Only files of packages are a worker's to read.
pub(crate) async fn file(
    farm: &Arc<Farm>,
    request: v1::FetchModelFileRequest,
) -> Result<Answers<v1::FetchModelFileResponse>, Status> {
    let sha256: FileDigest = read(&request.sha256)?;
    let missing = || {
        let message = format!("the file {sha256} is not on the farm, or was damaged: add its model again");
        faults::not_found("MODEL_FILE_NOT_FOUND", message)
    };
    let known = farm.store.model_file_bytes(&sha256).await.map_err(faults::of_store)?;
    let bytes = known.ok_or_else(missing)?;
    if request.offset > bytes {
        let message = format!("the file {sha256} has {bytes} bytes: there is no byte {}", request.offset);
        return Err(error::status(Code::OutOfRange, "NO_SUCH_BYTE", message));
    }
    let turn = farm.distribution.sending_turn()?;
    let pieces = farm.blob.files().read(&sha256, request.offset).await.map_err(faults::of_blob)?;
    let pieces = pieces.ok_or_else(missing)?;
    let (told, answers) = mpsc::channel(2);
    let farm = Arc::clone(farm);
    let tasks = farm.tasks.clone();
    tasks.spawn(async move {
        let _turn = turn;
        let sent = tokio::select! {
            sent = send(pieces, &told) => sent,
            () = farm.stopping.cancelled() => return,
        };
        tracing::info!(file.digest = %sha256, offset = request.offset, bytes = sent, "a file of a model was sent");
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

/// Sends pieces as chunks; says how many bytes the worker took.
async fn send(mut pieces: BoxStream<'static, Result<Bytes, BlobError>>, told: &Told) -> u64 {
    let mut waiting = BytesMut::new();
    let mut sent = 0;
    loop {
        match pieces.try_next().await {
            Ok(Some(piece)) => waiting.extend_from_slice(&piece),
            Ok(None) => break,
            Err(fault) => {
                // A worker that is gone needs no reason.
                let _ = told.send(Err(faults::of_blob(fault))).await;
                return sent;
            }
        }
        while waiting.len() >= CHUNK_BYTES {
            match say(told, waiting.split_to(CHUNK_BYTES)).await {
                Some(bytes) => sent += bytes,
                None => return sent,
            }
        }
    }
    sent + say(told, waiting).await.unwrap_or(0)
}

/// Sends one chunk; nothing where the worker is gone or does not read.
async fn say(told: &Told, chunk: BytesMut) -> Option<u64> {
    let bytes = chunk.len() as u64;
    let chunk = Some(v1::Chunk { data: chunk.to_vec() });
    let said = timeout(STALL, told.send(Ok(v1::FetchModelFileResponse { chunk }))).await;
    said.ok()?.ok().map(|()| bytes)
}
