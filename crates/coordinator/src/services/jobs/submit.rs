//! Admission: a job is checked whole and stored whole, or refused whole.

use seedfarm_core::plan::{self, JobSpec};
use seedfarm_core::{JobId, ModelManifest, WorkerId};
use seedfarm_proto::{error, v1};
use seedfarm_store::{JobRow, NewJob};
use tokio::time::Instant;
use tonic::{Code, Status};
use uuid::Uuid;

use super::terms;
use crate::farm::Farm;
use crate::services::check_short;
use crate::{catalogue, faults, wire};

/// Most bytes of an idempotency key.
const MAX_KEY_BYTES: usize = 200;

pub(super) async fn submit(
    farm: &Farm,
    request: v1::SubmitJobRequest,
) -> Result<v1::SubmitJobResponse, Status> {
    let key = check_key(&request.idempotency_key)?;
    let manifest = find_model(farm, &request.model).await?;
    let spec = JobSpec::try_from(request)?;
    let catalogue = catalogue::of_job(farm, &spec).await?;
    let plan = plan::plan_with(&spec, &manifest, &catalogue).map_err(|fault| error::invalid(&fault))?;
    terms::check_dependencies(farm, &spec.terms, plan.total, None).await?;
    let new = NewJob {
        id: JobId::from_uuid(Uuid::now_v7()),
        idempotency_key: key,
        name: spec.name,
        manifest,
        numerics: spec.numerics,
        terms: spec.terms,
        is_replay: false,
    };
    let inserted = farm.store.insert_job(farm.epoch(), &new, &plan).await.map_err(faults::of_store)?;
    let job = wire::job(&inserted.job);
    let id = inserted.job.id;
    let warnings = seat(farm, inserted.job, Vec::new()).await?;
    if inserted.repeated {
        follow(farm, id).await?;
    }
    farm.wake.notify_one();
    Ok(v1::SubmitJobResponse { job: Some(job), repeated: inserted.repeated, warnings })
}

/// Puts a stored job on the board. Answers what keeps every connected worker from it, if anything does.
pub(crate) async fn seat(farm: &Farm, job: JobRow, avoid: Vec<WorkerId>) -> Result<Vec<String>, Status> {
    let id = job.id;
    // The job is stored: a fault that passes must not keep it off the board.
    let context = farm.insist("read a job's model", |_| farm.store.job_context(id)).await;
    let context = context.ok_or_else(faults::stopping)?;
    let mut board = farm.board();
    board.add_job(job, context, avoid, Instant::now());
    Ok(board.wants(id).into_iter().collect())
}

/// A job that was there already may have ended between being read and being put on the board.
async fn follow(farm: &Farm, id: JobId) -> Result<(), Status> {
    let _turn = farm.control.lock().await;
    let row = farm.store.job(id).await.map_err(faults::of_store)?;
    if let Some(row) = row.filter(|row| row.state.is_final()) {
        farm.board().set_state(id, row.state);
    }
    Ok(())
}

fn check_key(key: &str) -> Result<String, Status> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) && !key.contains('\0') {
        return Ok(key.to_owned());
    }
    let message = format!(
        "the idempotency key has {} bytes or holds NUL; 1 to {MAX_KEY_BYTES} bytes of text are needed",
        key.len()
    );
    Err(error::status(Code::InvalidArgument, "BAD_IDEMPOTENCY_KEY", message))
}

/// Finds a model by name or digest; the refusal names those that are known.
async fn find_model(farm: &Farm, wanted: &str) -> Result<ModelManifest, Status> {
    check_short("the model's name", wanted)?;
    match farm.store.model(wanted).await.map_err(faults::of_store)? {
        Some(model) => Ok(model),
        None => Err(unknown_model(farm, wanted).await?),
    }
}

async fn unknown_model(farm: &Farm, wanted: &str) -> Result<Status, Status> {
    let models = farm.store.models().await.map_err(faults::of_store)?;
    let mut names: Vec<String> = models.into_iter().map(|model| model.name).collect();
    names.sort_unstable();
    names.dedup();
    let known = if names.is_empty() {
        "none is known yet: start a worker that has one".to_owned()
    } else {
        format!("known are {}", names.join(", "))
    };
    Ok(faults::not_found("UNKNOWN_MODEL", format!("the model '{wanted}' is unknown; {known}")))
}
