//! Passing a worker's progress on to those who watch the job.

use seedfarm_core::WorkerId;
use seedfarm_core::completion::Fence;
use seedfarm_proto::v1;

use crate::farm::Farm;
use crate::hub::JobEvent;

/// Most bytes of a preview.
const MAX_PREVIEW_BYTES: usize = 512 << 10;

/// Tells watchers of an image in the making. Nothing is kept of it, and what does not belong to a lease
/// of this worker is passed over.
pub(super) fn pass_on(farm: &Farm, worker: WorkerId, progress: v1::Progress) {
    let fence: Option<Fence> = progress.fence.map(Into::into);
    let Some((job, range)) = fence.and_then(|fence| {
        let board = farm.board();
        let lease = board.lease(&fence).filter(|lease| lease.device.worker == worker)?;
        Some((lease.job, lease.range))
    }) else {
        return;
    };
    let Some(png) = progress.preview_png.filter(|png| png.len() <= MAX_PREVIEW_BYTES) else { return };
    if range.contains(progress.index) {
        let preview = v1::Preview { index: progress.index, step: progress.step, steps: progress.steps, png };
        farm.hub.tell(job, &JobEvent::Preview(preview));
    }
}
