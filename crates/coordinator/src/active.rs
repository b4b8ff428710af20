//! A term as the active coordinator, from the takeover to its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::{JobId, WorkerId};
use seedfarm_store::{Reign, Snapshot, Store, StoreError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Pace};
use crate::farm::{Farm, now_ms};
use crate::lanes::{claims, completions, logs};
use crate::replica::{Replica, Told};
use crate::{CoordinatorError, distribution, reign as keeping, replays, upkeep};

/// How long what is not stored yet gets when the term ends, and as long again its tasks.
const GRACE: Duration = Duration::from_secs(5);

/// Reads what is unfinished, and reigns until the coordinator is to stop or must not write any more.
pub(crate) async fn reign(replica: &Replica, held: Reign) -> Result<(), CoordinatorError> {
    let failed = |what: &'static str| move |fault| CoordinatorError::of_store(what, fault);
    let store = &replica.store;
    store.put_models(&replica.manifests).await.map_err(failed("store the models"))?;
    let board = rebuild(store, &held, replica.pace).await.map_err(failed("read unfinished work"))?;
    let (farm, told) = replica.active(held.epoch(), board);
    let running = Running::start(&farm, held, told);
    replica.turn_to(&farm).await;
    tracing::info!(epoch = %farm.epoch(), "the coordinator reigns");
    farm.stopping.cancelled().await;
    replica.close_to_workers().await;
    running.stop(&farm).await;
    farm.verdict()
}

/// Reads what is unfinished.
async fn rebuild(store: &Store, reign: &Reign, pace: Pace) -> Result<Board, StoreError> {
    let snapshot = store.snapshot(reign.epoch()).await?;
    let avoid = originals(store, &snapshot).await?;
    let avoid = |job| avoid.get(&job).copied().into_iter().collect();
    let mut board = Board::rebuilt(pace, snapshot, avoid, Instant::now(), now_ms());
    for (name, policy) in store.tenant_policies().await? {
        board.put_tenant(&name, policy);
    }
    for limit in store.device_limits().await? {
        board.put_limit(limit.key, Some(limit.max_devices));
    }
    Ok(board)
}

/// Who rendered the originals of unfinished replays.
async fn originals(store: &Store, snapshot: &Snapshot) -> Result<HashMap<JobId, WorkerId>, StoreError> {
    let mut originals = HashMap::new();
    for job in snapshot.jobs.iter().filter(|job| job.is_replay) {
        let replay = store.replay_of_job(job.id).await?;
        originals.extend(replay.and_then(|replay| replay.original_worker).map(|worker| (job.id, worker)));
    }
    Ok(originals)
}

/// The tasks of a coordinator.
struct Running {
    claims: JoinHandle<()>,
    completions: JoinHandle<()>,
    reign: JoinHandle<()>,
    /// Ends the completions lane once everything that feeds it is over.
    last_ending: CancellationToken,
    /// Lets the lock go once nothing is written any more.
    last_write: CancellationToken,
}

impl Running {
    fn start(farm: &Arc<Farm>, held: Reign, told: Told) -> Self {
        let (last_ending, last_write) = (CancellationToken::new(), CancellationToken::new());
        farm.tasks.spawn(upkeep::expire(Arc::clone(farm)));
        farm.tasks.spawn(upkeep::note_presence(Arc::clone(farm)));
        farm.tasks.spawn(upkeep::remove_logs(Arc::clone(farm)));
        farm.tasks.spawn(logs::run(Arc::clone(farm), told.logs));
        farm.tasks.spawn(distribution::run(Arc::clone(farm)));
        farm.tasks.spawn(replays::judge_all(Arc::clone(farm)));
        Self {
            claims: tokio::spawn(claims::run(Arc::clone(farm))),
            completions: tokio::spawn(completions::run(Arc::clone(farm), told.ended, last_ending.clone())),
            reign: tokio::spawn(keeping::keep(Arc::clone(farm), held, last_write.clone())),
            last_ending,
            last_write,
        }
    }

    /// Stops everything in order: what feeds the lanes, the lanes, the reign. What the database does not
    /// take within the grace is given up; workers still have it.
    async fn stop(self, farm: &Arc<Farm>) {
        farm.stopping.cancel();
        let abandoned = farm.abandoned.clone();
        let patience = tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            abandoned.cancel();
        });
        farm.tasks.close();
        finish("claims", self.claims).await;
        if timeout(2 * GRACE, farm.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = farm.tasks.len(), "not every task of the coordinator ended in time");
        }
        self.last_ending.cancel();
        finish("completions", self.completions).await;
        self.last_write.cancel();
        finish("reign", self.reign).await;
        patience.abort();
    }
}

async fn finish(task: &'static str, handle: JoinHandle<()>) {
    if let Err(fault) = handle.await {
        tracing::error!(task, %fault, "a task of the coordinator ended in disorder");
    }
}
