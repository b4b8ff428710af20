//! Watching a job: its state at once, then whenever it changes, until it is final.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::JobId;
use seedfarm_proto::v1;
use seedfarm_store::JobRow;
use tokio::sync::mpsc;
use tokio::time::Instant;
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
    // Watching starts before the first look, so that no change falls between.
    let events = farm.hub.watch(id);
    stored(farm, id).await?;
    let (answers, receiver) = mpsc::channel(AHEAD);
    let watcher = Watcher { farm: Arc::clone(farm), id, events, answers, previews: request.previews };
    farm.tasks.spawn(watcher.run());
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Watcher {
    farm: Arc<Farm>,
    id: JobId,
    events: JobEvents,
    answers: mpsc::Sender<Result<v1::WatchJobResponse, Status>>,
    previews: bool,
}

impl Watcher {
    async fn run(mut self) {
        let stopping = self.farm.stopping.clone();
        tokio::select! {
            () = self.answer() => {}
            () = stopping.cancelled() => {
                // A reader that is gone or slow learns it from the connection's end.
                let _ = self.answers.try_send(Err(faults::stopping()));
            }
        }
    }

    async fn answer(&mut self) {
        let mut preview = None;
        loop {
            let (answer, over) = match self.look(preview.take()).await {
                Ok(answer) => {
                    let over = answer.job.as_ref().is_some_and(|job| is_final(job.state()));
                    (Ok(answer), over)
                }
                Err(status) => (Err(status), true),
            };
            if self.answers.send(answer).await.is_err() || over {
                return;
            }
            match self.next().await {
                Some(newest) => preview = newest,
                None => return,
            }
        }
    }

    /// Waits for the next event, and takes what follows closely along with it. `None` when the reader is
    /// gone.
    async fn next(&mut self) -> Option<Option<v1::Preview>> {
        let mut preview = None;
        loop {
            let event = tokio::select! {
                event = self.events.next() => event,
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
