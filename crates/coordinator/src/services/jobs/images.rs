//! Images of a job that are retried, or given up on purpose.
//!
//! Store and board change together, while neither lane has anything of the job on its way.

use seedfarm_core::{ImageRange, JobId, JobState, limits};
use seedfarm_proto::{error, v1};
use seedfarm_store::{JobRow, Retried};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::terms::{over, refuse_replay};
use super::{job_id, stored};
use crate::farm::Farm;
use crate::services::check_short;
use crate::{faults, replays, wire};

/// Most ranges of one request.
const MAX_RANGES: usize = 10_000;

/// Puts images that were given up back among those that wait.
pub(super) async fn retry(
    farm: &Farm,
    request: v1::RetryImagesRequest,
) -> Result<v1::RetryImagesResponse, Status> {
    let id = job_id(&request.job_id)?;
    check_short("the text of an error", &request.error)?;
    let which = ranges(&request.images)?;
    let _turn = farm.turns.write().await;
    let _control = farm.control.lock().await;
    let job = stored(farm, id).await?;
    refuse_replay(&job)?;
    if job.state == JobState::Cancelled {
        return Err(over(id));
    }
    let retried = farm.store.retry_dead(farm.epoch(), id, &which, &request.error).await;
    let (job, images) = follow(farm, id, retried.map_err(faults::of_store)?).await?;
    Ok(v1::RetryImagesResponse { job: Some(wire::job(&job)), images })
}

/// Gives up images that wait.
pub(super) async fn skip(
    farm: &Farm,
    request: v1::SkipImagesRequest,
) -> Result<v1::SkipImagesResponse, Status> {
    let id = job_id(&request.job_id)?;
    check_short("the reason", &request.reason)?;
    let mut which = ranges(&request.images)?;
    let _turn = farm.turns.write().await;
    let _control = farm.control.lock().await;
    let job = stored(farm, id).await?;
    refuse_replay(&job)?;
    if job.state.is_final() {
        return Err(over(id));
    }
    if which.is_empty() {
        which.extend(ImageRange::new(0, job.total));
    }
    check_amount(&job, &which)?;
    let reason = if request.reason.is_empty() { "somebody asked for it" } else { &request.reason };
    let skipped = farm.store.skip(farm.epoch(), id, &which, reason).await;
    let (job, images) = follow(farm, id, skipped.map_err(faults::of_store)?).await?;
    Ok(v1::SkipImagesResponse { job: Some(wire::job(&job)), images })
}

/// Each image given up is a row: a job of millions is better cancelled.
fn check_amount(job: &JobRow, which: &[ImageRange]) -> Result<(), Status> {
    let waiting = job.total - job.done.min(job.total);
    let asked: u64 = which.iter().map(|range| range.len()).sum();
    let most = asked.min(waiting);
    if most <= limits::MAX_SKIP {
        return Ok(());
    }
    let message = format!(
        "up to {most} images would be given up one by one, more than the limit of {}: name fewer, or cancel the job",
        limits::MAX_SKIP
    );
    Err(error::status(Code::InvalidArgument, "TOO_MANY_IMAGES", message))
}

/// Follows on the board what was stored, and tells those who watch.
async fn follow(farm: &Farm, id: JobId, retried: Retried) -> Result<(JobRow, u64), Status> {
    let job = stored(farm, id).await?;
    if job.state.is_final() {
        farm.board().set_state(id, job.state);
        replays::judge_job(farm, id).await;
    } else {
        reload(farm, id).await?;
    }
    farm.job_changed(id);
    farm.wake.notify_one();
    Ok((job, retried.images))
}

/// Brings the board's picture of a job up to date. Must be called while the lanes stand still.
pub(super) async fn reload(farm: &Farm, id: JobId) -> Result<(), Status> {
    if let Some(unfinished) = farm.store.unfinished(id).await.map_err(faults::of_store)? {
        farm.board().reload(unfinished, Instant::now());
    }
    farm.job_changed(id);
    farm.wake.notify_one();
    Ok(())
}

fn ranges(images: &[v1::Images]) -> Result<Vec<ImageRange>, Status> {
    if images.len() > MAX_RANGES {
        let message = format!("{} ranges are more than the limit of {MAX_RANGES}", images.len());
        return Err(error::malformed(message));
    }
    let read = |images: &v1::Images| {
        let v1::Images { lo, hi } = *images;
        let range = ImageRange::new(lo, hi).filter(|range| range.hi() <= limits::MAX_IMAGES_A_JOB);
        range.ok_or_else(|| error::malformed(format!("images {lo} to {hi} are no range of a job")))
    };
    images.iter().map(read).collect()
}
