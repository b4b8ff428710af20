//! The completions lane: everything that ends a lease goes through here, in order, so that a completion
//! and an expiry of one lease can never both count.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::LeaseId;
use seedfarm_core::completion::{FailureClass, Reception};
use seedfarm_core::placement::Timing;
use seedfarm_store::{Completion, CompletionOutcome, Progress, RangeRow};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::board::Settlement;
use crate::farm::{Farm, now_ms};
use crate::replays;

/// Endings that may wait for the lane.
pub(crate) const WAITING: usize = 1024;
/// Most endings of one flush.
const BATCH: usize = 256;

/// The end of a lease.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Its worker reports.
    Complete(Box<Completing>),
    /// It goes back without a word from its worker.
    Release {
        /// The lease.
        lease: LeaseId,
        /// Whose fault that is.
        class: FailureClass,
    },
}

/// A checked completion, and who waits for its answer.
#[derive(Debug)]
pub(crate) struct Completing {
    pub(crate) completion: Completion,
    /// Gets a reception for each image, in the completion's order; dropped if the coordinator stops.
    pub(crate) reply: oneshot::Sender<Vec<Reception>>,
}

/// Runs until `last` is cancelled and everything that arrived before is stored.
pub(crate) async fn run(farm: Arc<Farm>, mut endings: mpsc::Receiver<Ending>, last: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let arrived = tokio::select! {
            arrived = endings.recv_many(&mut batch, BATCH) => arrived,
            () = last.cancelled(), if !endings.is_closed() => {
                endings.close();
                continue;
            }
        };
        if arrived == 0 {
            return;
        }
        flush(&farm, std::mem::take(&mut batch)).await;
    }
}

/// Stores one batch and follows it on the board.
async fn flush(farm: &Arc<Farm>, batch: Vec<Ending>) {
    let (mut completions, mut replies, mut releases) = (Vec::new(), Vec::new(), Vec::new());
    for ending in batch {
        match ending {
            Ending::Complete(completing) => {
                completions.push(completing.completion);
                replies.push(completing.reply);
            }
            Ending::Release { lease, class } => releases.push((lease, class)),
        }
    }
    let _turn = farm.turns.read().await;
    complete(farm, completions, replies).await;
    for class in [FailureClass::Worker, FailureClass::HandedBack] {
        let leases = releases.iter().filter(|(_, of)| *of == class).map(|(lease, _)| *lease);
        release(farm, leases.collect(), class).await;
    }
    farm.wake.notify_one();
}

async fn complete(
    farm: &Arc<Farm>,
    completions: Vec<Completion>,
    replies: Vec<oneshot::Sender<Vec<Reception>>>,
) {
    if completions.is_empty() {
        return;
    }
    let stored = farm.insist("store completions", |epoch| farm.store.complete(epoch, &completions)).await;
    let Some(settled) = stored else { return };
    let now = Instant::now();
    {
        let mut board = farm.board();
        for (completion, outcome) in completions.iter().zip(&settled.outcomes) {
            board.settle(settlement(completion, outcome));
        }
        settled.progress.iter().for_each(|progress| board.count(progress, now));
    }
    for (completion, outcome) in completions.iter().zip(&settled.outcomes) {
        tell_of_divergence(completion, outcome);
    }
    for (reply, outcome) in replies.into_iter().zip(settled.outcomes) {
        // Nobody waits when the session ended meanwhile: the worker sends the completion again.
        let _ = reply.send(outcome.receptions);
    }
    settled.progress.iter().for_each(|progress| tell(farm, progress));
    for completion in completions {
        farm.job_changed(completion.job);
    }
}

fn settlement(completion: &Completion, outcome: &CompletionOutcome) -> Settlement {
    let defer = completion.failure.as_ref().map_or(Duration::ZERO, |failure| failure.defer);
    Settlement {
        // A lease that was not held any more is on the board only if it is on its way back.
        lease: outcome.lease_held.then_some(completion.fence.lease),
        retries: outcome.retry.iter().cloned().map(|row| due_after(row, defer)).collect(),
        timing: timing(completion),
    }
}

fn timing(completion: &Completion) -> Option<Timing> {
    let images = &completion.images;
    Some(Timing {
        images: images.len() as u64,
        total_ms: images.iter().map(|image| image.duration_ms).sum(),
        first_ms: images.first()?.duration_ms,
    })
}

/// Times a deferred range by this machine's clock, as the database's may differ.
fn due_after(mut row: RangeRow, defer: Duration) -> RangeRow {
    let ms = i64::try_from(defer.as_millis()).unwrap_or(i64::MAX);
    row.retry.not_before_ms = now_ms().saturating_add(ms);
    row
}

fn tell_of_divergence(completion: &Completion, outcome: &CompletionOutcome) {
    for (image, reception) in completion.images.iter().zip(&outcome.receptions) {
        if *reception == Reception::Divergent {
            tracing::error!(
                job.id = %completion.job, image = image.index, recipe.digest = %image.recipe,
                worker.id = %completion.worker,
                "the same recipe gave other pixels in the same numeric class; the first image stays"
            );
        }
    }
}

/// Tells watchers, and judges a replay whose image is there.
fn tell(farm: &Arc<Farm>, progress: &Progress) {
    farm.job_changed(progress.job);
    if progress.finished {
        let (farm, job) = (Arc::clone(farm), progress.job);
        let tasks = farm.tasks.clone();
        tasks.spawn(async move { replays::judge_job(&farm, job).await });
    }
}

async fn release(farm: &Farm, leases: Vec<LeaseId>, class: FailureClass) {
    if leases.is_empty() {
        return;
    }
    let stored = farm.insist("take leases back", |epoch| farm.store.release(epoch, &leases, class)).await;
    let Some(released) = stored else { return };
    let mut board = farm.board();
    for released in released {
        let rows = released.retry.into_iter();
        let retries: Vec<RangeRow> = rows.map(|row| due_after(row, Duration::ZERO)).collect();
        retries.iter().for_each(|row| farm.job_changed(row.job));
        let settlement = Settlement { lease: Some(released.lease), retries, timing: None };
        board.settle(settlement);
    }
    // What the store did not hold any more was completed in an earlier batch.
    leases.iter().for_each(|&lease| board.forget_lease(lease));
}
