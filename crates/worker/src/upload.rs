//! Sending picture files to the coordinator, again and again until it has them.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::WorkerId;
use seedfarm_core::completion::Fence;
use seedfarm_proto::{CHUNK_BYTES, v1};
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::event::Event;
use crate::link::Client;
use crate::outbox::{Outbox, StoredImage};
use crate::renderer::chain;

/// Files under way at once.
const AT_ONCE: usize = 4;

/// How long one try may take: 64 MiB at 256 KiB a second.
const DEADLINE: Duration = Duration::from_secs(256);

/// Sends files. Clones share the limit of files under way.
#[derive(Clone)]
pub(crate) struct Uploader {
    client: Client,
    outbox: Arc<Outbox>,
    worker: WorkerId,
    backoff: Backoff,
    permits: Arc<Semaphore>,
    /// Changes when the coordinator is back.
    welcomes: watch::Receiver<u64>,
}

impl Uploader {
    pub(crate) fn new(
        client: Client,
        outbox: Arc<Outbox>,
        worker: WorkerId,
        backoff: Backoff,
        welcomes: watch::Receiver<u64>,
    ) -> Self {
        Self { client, outbox, worker, backoff, permits: Arc::new(Semaphore::new(AT_ONCE)), welcomes }
    }

    /// Delivers one file; ends when the coordinator has it, or will never take it.
    pub(crate) async fn deliver(mut self, fence: Fence, image: StoredImage) -> Event {
        let mut attempt = 0;
        loop {
            match self.send(&fence, &image).await {
                Ok(()) => return Event::Uploaded(fence),
                Err(status) if is_final(status.code()) => {
                    return Event::UploadRefused(fence, image.index, status.message().to_owned());
                }
                Err(status) => self.wait(attempt, &fence, &status).await,
            }
            attempt = attempt.saturating_add(1);
        }
    }

    async fn send(&mut self, fence: &Fence, image: &StoredImage) -> Result<(), Status> {
        let permits = Arc::clone(&self.permits);
        let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let file = self.read(*fence, image.clone()).await?;
        let mut request = tonic::Request::new(tokio_stream::iter(chunks(image, &file)));
        request.set_timeout(DEADLINE);
        let answer = tokio::time::timeout(DEADLINE, self.client.put_artifact(request)).await;
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the upload took too long"))).map(drop)
    }

    async fn read(&self, fence: Fence, image: StoredImage) -> Result<Vec<u8>, Status> {
        let outbox = Arc::clone(&self.outbox);
        let read = tokio::task::spawn_blocking(move || outbox.read(&fence, &image)).await;
        let read = read.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        read.map_err(|error| Status::data_loss(format!("the picture in the outbox cannot be read: {error}")))
    }

    /// Waits for a while, or until the coordinator is back.
    async fn wait(&mut self, attempt: u32, fence: &Fence, status: &Status) {
        let delay = self.backoff.delay_after(attempt, self.worker, status);
        tracing::debug!(task.id = %fence.lease, attempt, error = chain(status), "upload is tried again");
        self.welcomes.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            Ok(()) = self.welcomes.changed() => {}
        }
    }
}

/// The file in pieces; the first names it.
fn chunks(image: &StoredImage, file: &[u8]) -> Vec<v1::PutArtifactRequest> {
    let mut digest = image.artifact.to_string();
    let chunk = |data: &[u8]| v1::PutArtifactRequest {
        artifact_digest: std::mem::take(&mut digest),
        chunk: Some(v1::Chunk { data: data.to_vec() }),
    };
    file.chunks(CHUNK_BYTES).map(chunk).collect()
}

/// Whether trying again cannot help. A refused token is left to the session, which ends the worker.
const fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::NotFound
            | Code::Unimplemented
            | Code::DataLoss
    )
}
