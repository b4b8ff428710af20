//! A completion: checked against what was leased, stored, answered.
//!
//! What a worker says is a stranger's word. An image counts only if the lease holds its index, its recipe
//! is the one that the coordinator itself derives, and its file is in the blob store. What does not hold
//! is refused with the reason, goes back into the queue, and is never stored.

mod check;
mod log;

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::placement::MAX_CHUNK;
use seedfarm_core::{ImageRange, JobId, WorkerId};
use seedfarm_proto::v1::{self, session_response::Message};
use seedfarm_store::{Completion, Failure, JobRow, StoredFingerprint};
use tokio::sync::oneshot;

use crate::farm::Farm;
use crate::lanes::{Completing, Ending};
use crate::recipes::LeasedWork;
use crate::refusals::Reason;
use crate::services::read;

/// Most bytes of a failure's text that are kept.
const MAX_ERROR_BYTES: usize = 4000;

/// Why a completion, or a part of it, is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) class: FailureClass,
    pub(super) reason: Reason,
    pub(super) text: String,
}

impl Refusal {
    /// The worker's fault.
    pub(super) fn worker(reason: Reason, text: impl Into<String>) -> Self {
        Self { class: FailureClass::Worker, reason, text: text.into() }
    }
}

/// What a completion is about, as the coordinator itself knows it.
pub(super) struct Leased {
    pub(super) job: JobRow,
    /// The lease's images; for a lease that is gone, those that the worker names.
    pub(super) range: ImageRange,
    pub(super) work: Arc<LeasedWork>,
    /// The device that holds the lease; absent where the lease is gone.
    pub(super) device: Option<u32>,
}

/// Who completes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    pub(super) worker: WorkerId,
    /// Stands where no image tells how it was rendered.
    pub(super) fingerprint: StoredFingerprint,
}

/// Takes in a completion and answers it. Without an answer, because the coordinator stops, the worker
/// sends it again later.
pub(super) async fn receive(farm: &Farm, from: Sender, complete: v1::Complete) {
    let worker = from.worker;
    let Some(fence) = complete.fence.map(Fence::from) else {
        farm.refusals.count(worker, Reason::Malformed);
        tracing::warn!(worker.id = %worker, "a completion without a fence is passed over");
        return;
    };
    let images = complete.images.len();
    let receptions = match leased(farm, worker, fence, &complete).await {
        None => return,
        // What was taken away already is handed back: there is nothing to store, and nobody to blame.
        Some(Err(_)) if images == 0 && farm.board().lease(&fence).is_none() => Vec::new(),
        Some(Err(refusal)) => {
            refuse(farm, worker, fence, &refusal);
            vec![Reception::Stale; images]
        }
        Some(Ok(leased)) => match store(farm, from, fence, &leased, complete).await {
            Some(receptions) => receptions,
            None => return,
        },
    };
    let receptions = receptions.into_iter().map(|one| v1::Reception::from(one).into()).collect();
    let settled = v1::Settled { fence: Some(fence.into()), receptions };
    farm.board().send(worker, Message::Settled(settled));
}

/// Logs a refusal and tells the worker.
fn refuse(farm: &Farm, worker: WorkerId, fence: Fence, refusal: &Refusal) {
    farm.refusals.count(worker, refusal.reason);
    let (name, reason) = (refusal.reason.as_str(), refusal.text.clone());
    tracing::warn!(worker.id = %worker, lease.id = %fence.lease, name, reason, "a completion is refused");
    farm.board().send(worker, Message::Revoke(v1::Revoke { fence: Some(fence.into()), reason }));
}

/// Finds what was leased under the fence. `None` when the coordinator stops.
async fn leased(
    farm: &Farm,
    worker: WorkerId,
    fence: Fence,
    complete: &v1::Complete,
) -> Option<Result<Leased, Refusal>> {
    let known = farm.board().lease(&fence).map(|l| (l.device, l.job, l.range, l.work.clone()));
    let device = known.as_ref().map(|(device, ..)| device.device);
    let (job, range, work) = match known {
        Some((holder, ..)) if holder.worker != worker => {
            let text = format!("lease {} is another worker's", fence.lease);
            return Some(Err(Refusal::worker(Reason::Foreign, text)));
        }
        Some((_, job, range, work)) => (job, Some(range), work),
        None => match read::<JobId>(&complete.job_id) {
            Ok(job) => (job, None, None),
            Err(status) => return Some(Err(Refusal::worker(Reason::Malformed, status.message()))),
        },
    };
    let unfinished = farm.board().job(job).map(|card| card.row.clone());
    let row = match unfinished {
        Some(row) => Some(row),
        None => farm.insist("read a job", |_| farm.store.job(job)).await?,
    };
    let Some(row) = row else {
        return Some(Err(Refusal::worker(Reason::NotHeld, format!("{job} is unknown"))));
    };
    let named = match range.or_else(|| named(complete, row.total)) {
        Some(range) => range,
        None => return Some(Err(Refusal::worker(Reason::NotHeld, "it names no images of one lease"))),
    };
    let work = match work {
        Some(work) => work,
        None => match farm.read_recipes(&row, named).await? {
            Ok(work) => Arc::new(work),
            Err(fault) => return Some(Err(Refusal::worker(Reason::NotHeld, fault.to_string()))),
        },
    };
    Some(Ok(Leased { job: row, range: named, work, device }))
}

/// The images that a completion names, where one lease could hold them.
fn named(complete: &v1::Complete, total: u64) -> Option<ImageRange> {
    let indices = || complete.images.iter().map(|image| image.index);
    let (lo, hi) = (indices().min()?, indices().max()?.checked_add(1)?);
    ImageRange::new(lo, hi).filter(|range| range.len() <= MAX_CHUNK && hi <= total)
}

/// Checks and stores; answers a reception for each image that the worker named.
async fn store(
    farm: &Farm,
    from: Sender,
    fence: Fence,
    leased: &Leased,
    mut complete: v1::Complete,
) -> Option<Vec<Reception>> {
    let told = std::mem::take(&mut complete.log);
    let mut receptions = vec![Reception::Stale; complete.images.len()];
    let checked = check::images(farm, leased, &complete).await?;
    let refusal = checked.refusal.or_else(|| too_few(leased, &complete));
    let failure = match refusal {
        Some(refusal) => {
            refuse(farm, from.worker, fence, &refusal);
            Some((refusal.class, refusal.text))
        }
        None => reported(&complete),
    };
    let fingerprint = checked.fingerprint.unwrap_or(from.fingerprint);
    let (positions, images): (Vec<usize>, Vec<_>) = checked.images.into_iter().unzip();
    let completion = Completion {
        fence,
        job: leased.job.id,
        worker: from.worker,
        fingerprint,
        images,
        failure: failure.map(|(class, error)| Failure { class, error, defer: defer(farm, class) }),
    };
    let class = completion.failure.as_ref().map(|failure| failure.class);
    let (reply, answer) = oneshot::channel();
    let completing = Completing { completion, reply };
    farm.endings.send(Ending::Complete(Box::new(completing))).await.ok()?;
    for (position, reception) in positions.into_iter().zip(answer.await.ok()?) {
        receptions[position] = reception;
    }
    if leased.device.is_none() && receptions.contains(&Reception::Stale) {
        farm.refusals.count(from.worker, Reason::NotHeld);
    }
    log::keep(farm, from.worker, fence, leased, class, &told);
    Some(receptions)
}

/// Images are missing, and the worker does not say why.
fn too_few(leased: &Leased, complete: &v1::Complete) -> Option<Refusal> {
    let (came, wanted) = (complete.images.len() as u64, leased.range.len());
    let silent = leased.device.is_some() && complete.failure.is_none() && came < wanted;
    silent.then(|| {
        Refusal::worker(Reason::TooFewImages, format!("{came} of {wanted} images came, without a reason"))
    })
}

/// How long images stay unleased after a failure, so that a fault that stays is not met again at once.
fn defer(farm: &Farm, class: FailureClass) -> Duration {
    match class {
        FailureClass::Task | FailureClass::HandedBack => Duration::ZERO,
        FailureClass::Worker => farm.timing.heartbeat,
        FailureClass::Environment => farm.timing.lease_ttl,
    }
}

/// The failure that the worker itself reports.
fn reported(complete: &v1::Complete) -> Option<(FailureClass, String)> {
    let failure = complete.failure.as_ref()?;
    // A class that nobody knows is the worker's fault.
    let class = FailureClass::try_from(failure.class()).unwrap_or(FailureClass::Worker);
    let error: String = failure.error.chars().filter(|c| *c != '\0').collect();
    let cut = (0..=MAX_ERROR_BYTES.min(error.len())).rev().find(|&at| error.is_char_boundary(at));
    Some((class, error[..cut.unwrap_or(0)].to_owned()))
}
