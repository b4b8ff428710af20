//! One file on its way: asked for from where it stopped, again and again while it gets on.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::{PackageFile, WorkerId};
use seedfarm_proto::v1;
use tokio::task::spawn_blocking;
use tonic::Status;

use super::Fetched;
use super::fault::FetchFault;
use super::partial::Partial;
use crate::backoff::Backoff;
use crate::link::{Client, is_permanent};
use crate::renderer::chain;

/// Tries in a row that bring nothing before the file is given up; a later wish of the coordinator starts again.
const TRIES: u32 = 5;
/// How long the coordinator may take for one chunk.
const STALL: Duration = Duration::from_secs(60);

/// Fetches files.
pub(super) struct Downloader {
    pub(super) client: Client,
    pub(super) worker: WorkerId,
    pub(super) backoff: Backoff,
    pub(super) fetched: Arc<Fetched>,
}

impl Downloader {
    /// Fetches one file, unless it is there.
    pub(super) async fn file(&self, file: &PackageFile) -> Result<(), FetchFault> {
        let (fetched, wanted) = (Arc::clone(&self.fetched), file.clone());
        if blocking(move || fetched.has_file(&wanted)).await? {
            return Ok(());
        }
        let (fetched, wanted) = (Arc::clone(&self.fetched), file.clone());
        let mut partial = blocking(move || Partial::open(&fetched, &wanted)).await?;
        let mut tries = 0;
        while !partial.is_complete() {
            let before = partial.done();
            let (grown, end) = self.go_on(partial, file).await?;
            partial = grown;
            tries = if partial.done() > before { 0 } else { tries + 1 };
            if let Err(status) = end {
                self.wait(tries, status).await?;
            }
        }
        blocking(move || partial.finish()).await
    }

    /// Takes what one stream brings. Faults of this machine are final, those of the stream come with what
    /// is there by then.
    async fn go_on(
        &self,
        mut partial: Partial,
        file: &PackageFile,
    ) -> Result<(Partial, Result<(), Status>), FetchFault> {
        let request = v1::FetchModelFileRequest { sha256: file.sha256.to_string(), offset: partial.done() };
        let mut stream = match in_time(self.client.clone().fetch_model_file(request)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok((partial, Err(status))),
        };
        loop {
            let data = match in_time(stream.message()).await {
                Ok(Some(message)) => message.chunk.unwrap_or_default().data,
                Ok(None) if partial.is_complete() => return Ok((partial, Ok(()))),
                Ok(None) => return Ok((partial, Err(Status::unavailable("the file ended too early")))),
                Err(status) => return Ok((partial, Err(status))),
            };
            partial = blocking(move || partial.append(&data).map(|()| partial)).await?;
        }
    }

    /// Waits before the next try, if there is to be one.
    async fn wait(&self, tries: u32, status: Status) -> Result<(), FetchFault> {
        if tries >= TRIES || is_permanent(status.code()) {
            return Err(status.into());
        }
        tracing::debug!(worker.id = %self.worker, tries, error = chain(&status), "a download is tried again");
        tokio::time::sleep(self.backoff.delay(tries, self.worker)).await;
        Ok(())
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded("the coordinator does not go on"));
    tokio::time::timeout(STALL, answer).await.unwrap_or_else(late)
}

/// Runs what reads or writes the disk where nobody waits for it.
pub(super) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(act).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
