//! Pausing, resuming, cancelling.

use seedfarm_core::terms::Hold;
use seedfarm_core::{JobId, JobTransition};
use seedfarm_proto::error;
use seedfarm_proto::v1::{self, session_response::Message};
use seedfarm_store::JobRow;
use tonic::{Code, Status};

use super::stored;
use crate::farm::Farm;
use crate::{faults, replays, wire};

/// Brings a job into another state, in the store first; then workers and watchers learn of it.
pub(super) async fn change(farm: &Farm, id: JobId, transition: JobTransition) -> Result<v1::Job, Status> {
    let turn = farm.control.lock().await;
    loop {
        let job = stored(farm, id).await?;
        let to = job.state.after(transition).map_err(|fault| {
            error::status(Code::FailedPrecondition, "JOB_STATE", format!("{id}: {fault}"))
        })?;
        if to == job.state {
            return Ok(wire::job(&job));
        }
        if transition == JobTransition::Resume {
            check_caps(&job)?;
        }
        let set = farm.store.set_state(farm.epoch(), id, job.state, to).await.map_err(faults::of_store)?;
        if set {
            break;
        }
    }
    let job = stored(farm, id).await?;
    revoke(farm, id, job.state);
    drop(turn);
    if job.is_replay && job.state.is_final() {
        replays::judge_job(farm, id).await;
    }
    Ok(wire::job(&job))
}

/// A job that reached a cap would stop again at once: the cap has to be raised first.
fn check_caps(job: &JobRow) -> Result<(), Status> {
    let caps = &job.terms.caps;
    let why = match caps.reached(job.device_ms, job.failed) {
        None | Some(Hold::Person) => return Ok(()),
        Some(Hold::Budget) => format!(
            "it took {} s of device time, and its budget is {} s: raise it with 'seedfarm set {} --budget'",
            job.device_ms / 1000,
            caps.budget_ms.unwrap_or_default() / 1000,
            job.id
        ),
        Some(Hold::Failures) => format!(
            "{} images were given up, and {} are allowed: raise that with 'seedfarm set {} --max-failures', or retry \
             them with 'seedfarm retry'",
            job.failed,
            caps.max_failures.unwrap_or_default(),
            job.id
        ),
    };
    let message = format!("{} cannot be resumed: {why}", job.id);
    Err(error::status(Code::FailedPrecondition, "CAP_REACHED", message))
}

/// Follows a new state on the board and tells workers that hold leases of a job that is over.
fn revoke(farm: &Farm, id: JobId, state: seedfarm_core::JobState) {
    let mut board = farm.board();
    for lease in board.set_state(id, state) {
        if let Some((worker, fence)) = board.holder(lease) {
            let reason = format!("{id} is {}", state.as_str());
            board.send(worker, Message::Revoke(v1::Revoke { fence: Some(fence.into()), reason }));
        }
    }
    drop(board);
    farm.job_changed(id);
    farm.wake.notify_one();
}
