//! Passing a worker's progress on to those who watch the job.

use seedfarm_core::completion::Fence;
use seedfarm_core::{ImageRange, JobId, WorkerId};
use seedfarm_proto::v1::{self, session_response::Message};

use crate::farm::Farm;
use crate::hub::JobEvent;
use crate::refusals::Reason;

/// Most bytes of a preview.
const MAX_PREVIEW_BYTES: usize = 512 << 10;

/// Tells watchers of an image in the making. Nothing is kept of it. A worker that goes on with a lease that is
/// not its own, or not any more, is told to stop.
pub(super) fn pass_on(farm: &Farm, worker: WorkerId, progress: v1::Progress) {
    let Some(fence) = progress.fence.map(Fence::from) else {
        return refuse(farm, worker, Reason::Malformed, None);
    };
    let (job, range) = match lease_of(farm, worker, &fence) {
        Ok(lease) => lease,
        Err(reason) => return refuse(farm, worker, reason, Some(fence)),
    };
    if !range.contains(progress.index) {
        return refuse(farm, worker, Reason::OutsideLease, None);
    }
    let Some(png) = progress.preview_png.filter(|png| png.len() <= MAX_PREVIEW_BYTES) else { return };
    let preview = v1::Preview { index: progress.index, step: progress.step, steps: progress.steps, png };
    farm.hub.tell(job, &JobEvent::Preview(preview));
}

/// The job and the images of a lease that the worker holds.
fn lease_of(farm: &Farm, worker: WorkerId, fence: &Fence) -> Result<(JobId, ImageRange), Reason> {
    let board = farm.board();
    let lease = board.lease(fence).ok_or(Reason::NotHeld)?;
    if lease.device.worker == worker { Ok((lease.job, lease.range)) } else { Err(Reason::Foreign) }
}

/// Counts what is refused; a lease that is none of the worker's is revoked.
fn refuse(farm: &Farm, worker: WorkerId, reason: Reason, revoked: Option<Fence>) {
    farm.refusals.count(worker, reason);
    tracing::debug!(worker.id = %worker, reason = reason.as_str(), "progress is refused");
    if let Some(fence) = revoked {
        let reason = "the lease is not the worker's, or not any more".to_owned();
        farm.board().send(worker, Message::Revoke(v1::Revoke { fence: Some(fence.into()), reason }));
    }
}
