//! The claims lane: chooses what free devices render next, makes it durable, and only then tells them.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::placement::Source;
use seedfarm_core::{JobId, JobState, LeaseId};
use seedfarm_proto::v1::{self, session_response::Message};
use seedfarm_store::{Claim, JobRow};
use tokio::time::Instant;

use super::Ending;
use crate::CoordinatorError;
use crate::board::{Grantee, PendingGrant};
use crate::farm::{Farm, now_ms};
use crate::recipes::LeasedWork;

/// Most claims of one flush.
const BATCH: usize = 1024;

/// Runs until the coordinator stops.
pub(crate) async fn run(farm: Arc<Farm>) {
    while !farm.stopping.is_cancelled() {
        let turn = farm.turns.read().await;
        let (chosen, due_ms) = farm.board().choose(BATCH, now_ms());
        if chosen.is_empty() {
            drop(turn);
            wait(&farm, due_ms).await;
        } else {
            claim(&farm, chosen).await;
        }
    }
}

/// Waits until there may be something to choose.
async fn wait(farm: &Farm, due_ms: Option<i64>) {
    let due = async {
        match due_ms {
            Some(due_ms) => {
                let ms = u64::try_from(due_ms - now_ms()).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = farm.wake.notified() => {}
        () = due => {}
        () = farm.stopping.cancelled() => {}
    }
}

/// Makes one batch durable and hands it out.
async fn claim(farm: &Arc<Farm>, chosen: Vec<PendingGrant>) {
    let claims: Vec<Claim> = chosen.iter().map(of_grant).collect();
    let stored = farm.insist("store leases", |epoch| {
        let claims = &claims;
        async move { Ok((epoch, farm.store.claim(epoch, claims).await?)) }
    });
    let Some((epoch, leases)) = stored.await else { return };
    let now = Instant::now();
    let (mut waiting, mut gone, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (grant, lease) in chosen.into_iter().zip(leases) {
        let Some(lease) = lease else {
            refused.push(grant);
            continue;
        };
        match farm.board().granted(&grant, Fence { lease, attempt: grant.pick.attempt, epoch }, now) {
            Grantee::Waiting(fence) => waiting.push((grant, fence)),
            Grantee::Gone(lease) => gone.push(lease),
        }
    }
    farm.tasks.spawn(send_all(Arc::clone(farm), waiting));
    for lease in gone {
        give_back(farm, lease, FailureClass::HandedBack).await;
    }
    take_back(farm, &refused).await;
}

fn of_grant(grant: &PendingGrant) -> Claim {
    let pick = &grant.pick;
    Claim {
        job: pick.job,
        range: pick.range,
        attempt: pick.attempt,
        worker: pick.device.worker,
        device: pick.device.device,
        avoid: pick.avoid.clone(),
        source: pick.source,
    }
}

async fn give_back(farm: &Farm, lease: LeaseId, class: FailureClass) {
    // The lane ends after everything that feeds it; then the lease waits in the store for the next reign.
    let _ = farm.endings.send(Ending::Release { lease, class }).await;
}

/// Follows what the store refused: the jobs were paused or cancelled a moment ago, or the first lease of a twin
/// has ended.
async fn take_back(farm: &Farm, refused: &[PendingGrant]) {
    if refused.is_empty() {
        return;
    }
    let _turn = farm.control.lock().await;
    {
        let mut board = farm.board();
        refused.iter().rev().for_each(|grant| board.not_granted(grant));
    }
    let firsts = refused.iter().filter(|grant| grant.pick.source != Source::Twin);
    let mut jobs: Vec<JobId> = firsts.map(|grant| grant.pick.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    for job in jobs {
        let Some(row) = farm.insist("read a job", |_| farm.store.job(job)).await else { return };
        match row.map_or(JobState::Cancelled, |row| row.state) {
            JobState::Active => farm.step_down(CoordinatorError::OutOfStep { job }),
            state => drop(farm.board().set_state(job, state)),
        }
    }
}

/// Sends grants to workers that wait for them.
async fn send_all(farm: Arc<Farm>, grants: Vec<(PendingGrant, Fence)>) {
    for (grant, fence) in grants {
        let job = farm.board().job(grant.pick.job).map(|card| card.row.clone());
        let Some(job) = job else {
            // The job is over, and its lease was revoked as soon as it was granted.
            farm.board().not_sent(&grant);
            continue;
        };
        match farm.read_recipes(&job, grant.pick.range).await {
            Some(Ok(work)) => send(&farm, &grant, fence, &job, work),
            Some(Err(fault)) => {
                let error = &fault as &dyn std::error::Error;
                tracing::error!(job.id = %job.id, error, "the recipes of a lease cannot be had; it will expire");
                farm.board().not_sent(&grant);
            }
            None => return,
        }
    }
}

fn send(farm: &Farm, grant: &PendingGrant, fence: Fence, job: &JobRow, work: LeasedWork) {
    let device = grant.pick.device;
    let message = message(job, device.device, fence, &work);
    let mut board = farm.board();
    board.remember(fence.lease, Arc::new(work));
    if !board.send(device.worker, Message::Grant(message)) {
        tracing::debug!(lease.id = %fence.lease, "the worker left before its grant; the lease will expire");
    }
    drop(board);
    farm.job_changed(job.id);
}

fn message(job: &JobRow, device: u32, fence: Fence, work: &LeasedWork) -> v1::Grant {
    let (images, templates_json) = work.to_wire();
    v1::Grant {
        fence: Some(fence.into()),
        job_id: job.id.to_string(),
        device,
        model_digest: job.model_digest.to_string(),
        images,
        templates_json,
    }
}
