//! A job's terms: held against what is there at submission, changed later.

use seedfarm_core::{JobId, JobState, JobTerms};
use seedfarm_proto::{error, v1};
use seedfarm_store::JobRow;
use tonic::{Code, Status};

use super::{job_id, stored};
use crate::farm::Farm;
use crate::{faults, wire};

/// Most fields of one change.
const MAX_FIELDS: usize = 64;

/// Holds what a job waits for against what is there: a job that would wait for ever is refused. `total` are its
/// images, `own` its id where it has one already.
pub(super) async fn check_dependencies(
    farm: &Farm,
    terms: &JobTerms,
    total: u64,
    own: Option<JobId>,
) -> Result<(), Status> {
    for job in terms.dependencies() {
        let found = farm.store.job(job).await.map_err(faults::of_store)?;
        let images = terms.after_images.contains(&job).then_some(total);
        check_dependency(job, found.as_ref(), images, own)
            .map_err(|why| error::status(Code::FailedPrecondition, "DEPENDENCY", why))?;
    }
    Ok(())
}

fn check_dependency(
    job: JobId,
    found: Option<&JobRow>,
    images: Option<u64>,
    own: Option<JobId>,
) -> Result<(), String> {
    let Some(row) = found else {
        return Err(format!(
            "{job}, which the job is to wait for, is unknown: list jobs to see what there is"
        ));
    };
    if row.state == JobState::Cancelled {
        return Err(format!("{job}, which the job is to wait for, is cancelled and will never finish"));
    }
    // A job that is older can wait for nothing that is not yet submitted, but its terms may be changed later.
    if own == Some(job) || own.is_some_and(|own| row.terms.dependencies().any(|next| next == own)) {
        return Err(format!("{job} and the job would wait for each other"));
    }
    match images {
        Some(images) if row.total < images => Err(format!(
            "{job} has {} images, and the job that is to follow it image by image has {images}: use 'after'",
            row.total
        )),
        _ => Ok(()),
    }
}

/// Changes the terms of an unfinished job, in the store first.
pub(super) async fn set(farm: &Farm, request: v1::SetTermsRequest) -> Result<v1::Job, Status> {
    let id = job_id(&request.job_id)?;
    if request.fields.is_empty() || request.fields.len() > MAX_FIELDS {
        let message =
            format!("{} terms are named to be changed: name 1 to {MAX_FIELDS}", request.fields.len());
        return Err(error::status(Code::InvalidArgument, "NO_TERMS", message));
    }
    let wanted: JobTerms = request.terms.unwrap_or_default().try_into()?;
    let turn = farm.turns.write().await;
    let _control = farm.control.lock().await;
    let job = stored(farm, id).await?;
    refuse_replay(&job)?;
    let (terms, words) =
        job.terms.changed(&request.fields, &wanted).map_err(|fault| error::invalid(&fault))?;
    check_dependencies(farm, &terms, job.total, Some(id)).await?;
    let set = farm.store.set_terms(farm.epoch(), id, &terms, &words).await.map_err(faults::of_store)?;
    let job = set.ok_or_else(|| over(id))?;
    super::images::reload(farm, id).await?;
    drop(turn);
    Ok(wire::job(&job))
}

/// The job of a replay is the replay's own business.
pub(super) fn refuse_replay(job: &JobRow) -> Result<(), Status> {
    if job.is_replay {
        let message = format!("{} is the one-image job of a replay: cancel it, or replay again", job.id);
        return Err(error::status(Code::FailedPrecondition, "IS_REPLAY", message));
    }
    Ok(())
}

pub(super) fn over(id: JobId) -> Status {
    let message = format!("{id} is over, so nothing of it can be changed");
    error::status(Code::FailedPrecondition, "JOB_STATE", message)
}
