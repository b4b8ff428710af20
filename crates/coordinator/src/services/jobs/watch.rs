//! Watching a job: its state at once, then whenever it changes, until it is final.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::JobId;
use seedfarm_proto::error;
use seedfarm_proto::v1;
use seedfarm_store::JobRow;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, job_id, stored};
use crate::farm::Farm;
use crate::hub::{JobEvent, JobEvents};
use crate::{faults, wire};

/// Events of this long are told together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Answers that may wait for a slow reader.
const AHEAD: usize = 8;

pub(super) async fn watch(
    farm: &Arc<Farm>,
    request: &v1::WatchJobRequest,
) -> Result<Answers<v1::WatchJobResponse>, Status> {
    let id = job_id(&request.job_id)?;
    let turn = Arc::clone(&farm.watchers).try_acquire_owned().map_err(|_| busy())?;
    // Watching starts before the first look, so that no change falls between.
    let events = farm.hub.watch(id);
    stored(farm, id).await?;
    let (answers, receiver) = mpsc::channel(AHEAD);
    // Room for the last word, which must reach a reader that lets all other room fill up.
    let last_word = answers.clone().try_reserve_owned().map_err(|_| faults::stopping())?;
    let watcher = Watcher { farm: Arc::clone(farm), id, events, answers, previews: request.previews };
    farm.tasks.spawn(async move {
        if let Some(status) = watcher.run().await {
            last_word.send(Err(status));
        }
        drop(turn);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn busy() -> Status {
    let message = "too many watch jobs already: try again, or look from time to time instead of watching";
    error::try_again("WATCHERS_BUSY", message, Duration::from_secs(5))
}

struct Watcher {
    farm: Arc<Farm>,
    id: JobId,
    events: JobEvents,
    answers: mpsc::Sender<Result<v1::WatchJobResponse, Status>>,
    previews: bool,
}

impl Watcher {
    /// Answers until nothing more will come; a status ends the stream with a reason.
    async fn run(mut self) -> Option<Status> {
        let stopping = self.farm.stopping.clone();
        tokio::select! {
            status = self.answer() => status,
            () = stopping.cancelled() => Some(faults::stopping()),
        }
    }

    async fn answer(&mut self) -> Option<Status> {
        let mut preview = None;
        loop {
            let answer = match self.look(preview.take()).await {
                Ok(answer) => answer,
                Err(status) => return Some(status),
            };
            let over = answer.job.as_ref().is_some_and(|job| is_final(job.state()));
            match timeout(self.farm.timing.lease_ttl, self.answers.send(Ok(answer))).await {
                Ok(Ok(())) if !over => {}
                Ok(_) => return None,
                Err(_) => return Some(self.too_slow()),
            }
            preview = self.next().await?;
        }
    }

    /// What is not read for as long as a worker may be silent is not kept any longer.
    fn too_slow(&self) -> Status {
        tracing::info!(job.id = %self.id, "a watcher does not read; ending its stream");
        let message = "the answers were not read in time: watch again, and read faster";
        error::try_again("SLOW_READER", message, Duration::from_secs(1))
    }

    /// Waits for the next event, and takes what follows closely along with it. `None` when the reader is
    /// gone.
    async fn next(&mut self) -> Option<Option<v1::Preview>> {
        let mut preview = None;
        loop {
            let event = tokio::select! {
                event = self.events.next() => event,
                () = self.farm.look_again() => JobEvent::Changed,
                () = self.answers.closed() => return None,
            };
            if self.counts(event, &mut preview) {
                break;
            }
        }
        tokio::time::sleep(TOGETHER).await;
        while let Some(event) = self.events.ready() {
            self.counts(event, &mut preview);
        }
        Some(preview)
    }

    /// Whether an event is worth an answer. A preview is kept, the newest of several.
    fn counts(&self, event: JobEvent, preview: &mut Option<v1::Preview>) -> bool {
        match event {
            JobEvent::Preview(_) if !self.previews => false,
            JobEvent::Preview(newest) => {
                *preview = Some(newest);
                true
            }
            JobEvent::Changed => true,
        }
    }

    /// The job as it is now: from the board while it is unfinished, else from the store.
    async fn look(&self, preview: Option<v1::Preview>) -> Result<v1::WatchJobResponse, Status> {
        if let Some(answer) = self.look_at_board(preview.clone()) {
            return Ok(answer);
        }
        let row: JobRow = stored(&self.farm, self.id).await?;
        Ok(v1::WatchJobResponse { job: Some(wire::job(&row)), preview, ..v1::WatchJobResponse::default() })
    }

    fn look_at_board(&self, preview: Option<v1::Preview>) -> Option<v1::WatchJobResponse> {
        let board = self.farm.board();
        let card = board.job(self.id)?;
        let (leases, workers) = board.leases_of(self.id);
        Some(v1::WatchJobResponse {
            job: Some(wire::job(&card.row)),
            images_per_second: card.images_per_second(Instant::now()),
            leases,
            workers,
            preview,
        })
    }
}

fn is_final(state: v1::JobState) -> bool {
    matches!(state, v1::JobState::Cancelled | v1::JobState::Finished)
}
