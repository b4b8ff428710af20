//! Taking files in: which parts are missing, the parts themselves, and the whole.

use std::sync::Arc;

use futures::TryStreamExt;
use seedfarm_blob::{BlobError, FileStore};
use seedfarm_core::{FileDigest, limits, package};
use seedfarm_proto::{error, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::super::jobs::Answers;
use super::file;
use crate::farm::Farm;
use crate::faults;
use crate::services::chunks;

/// Bytes of a file between two words about it.
const TOLD_EVERY: u64 = 64 << 20;

/// What is there of each file.
pub(crate) async fn find(
    farm: &Farm,
    request: v1::FindModelFilesRequest,
) -> Result<v1::FindModelFilesResponse, Status> {
    if request.files.len() > limits::MAX_PACKAGE_FILES {
        let (given, most) = (request.files.len(), limits::MAX_PACKAGE_FILES);
        let message = format!("{given} files are more than the limit of {most}");
        return Err(error::status(Code::InvalidArgument, "TOO_MANY_FILES", message));
    }
    let store = farm.blob.files();
    let mut files = Vec::with_capacity(request.files.len());
    for asked in request.files {
        let (digest, bytes) = file(Some(asked))?;
        files.push(look(&store, &digest, bytes).await.map_err(faults::of_blob)?);
    }
    Ok(v1::FindModelFilesResponse { files })
}

async fn look(store: &FileStore, digest: &FileDigest, bytes: u64) -> Result<v1::FoundModelFile, BlobError> {
    if store.size(digest).await? == Some(bytes) {
        return Ok(v1::FoundModelFile { whole: true, parts: Vec::new() });
    }
    let parts = store.parts(digest, bytes).await?;
    Ok(v1::FoundModelFile { whole: false, parts: parts.into_iter().collect() })
}

/// Takes one part in.
pub(crate) async fn put_part(
    farm: &Farm,
    mut messages: Streaming<v1::PutModelPartRequest>,
) -> Result<v1::PutModelPartResponse, Status> {
    let _turn = farm.distribution.part_turn().await?;
    let first = chunks::next(&mut messages).await?.ok_or_else(|| error::missing("its first chunk"))?;
    let (digest, bytes) = file(first.file)?;
    let due = package::part_bytes(bytes, first.part);
    let data = chunks::receive(first.chunk, &mut messages.map_ok(|message| message.chunk)).await?;
    if due == 0 || data.len() as u64 != due {
        let (part, given) = (first.part, data.len());
        let message = format!("part {part} of a file of {bytes} bytes has {due} bytes, not {given}");
        return Err(error::status(Code::InvalidArgument, "WRONG_PART", message));
    }
    farm.blob.files().put_part(&digest, first.part, data).await.map_err(faults::of_blob)?;
    Ok(v1::PutModelPartResponse {})
}

/// Puts a file together, telling how far it is.
pub(crate) async fn seal(
    farm: &Arc<Farm>,
    request: v1::SealModelFileRequest,
) -> Result<Answers<v1::SealModelFileResponse>, Status> {
    let (digest, bytes) = file(request.file)?;
    let turn = farm.distribution.reading_turn().await?;
    let (told, answers) = mpsc::channel(16);
    let (store, stopping) = (farm.blob.files(), farm.stopping.clone());
    farm.tasks.spawn(async move {
        let _turn = turn;
        let mut last = 0;
        let sealed = store.seal(&digest, bytes, |done| {
            if done - last >= TOLD_EVERY {
                last = done;
                // Whoever does not listen learns the end all the same.
                let _ = told.try_send(Ok(v1::SealModelFileResponse { bytes_done: done, sealed: false }));
            }
        });
        let sealed = tokio::select! {
            sealed = sealed => sealed.map_err(refusal),
            () = stopping.cancelled() => Err(faults::stopping()),
        };
        let end = sealed.map(|_| v1::SealModelFileResponse { bytes_done: bytes, sealed: true });
        let _ = told.send(end).await;
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

fn refusal(fault: BlobError) -> Status {
    match &fault {
        BlobError::FileMismatch { .. } => {
            error::status(Code::InvalidArgument, "WRONG_DIGEST", fault.to_string())
        }
        BlobError::PartMissing { .. } => {
            error::status(Code::FailedPrecondition, "PART_MISSING", fault.to_string())
        }
        _ => faults::of_blob(fault),
    }
}
