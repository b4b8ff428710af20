//! What every service and task of one coordinator shares, for one term as active or as standby.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seedfarm_blob::Blob;
use seedfarm_core::{ArtifactDigest, Epoch, ImageRange, JobId, Numerics};
use seedfarm_store::bus::Bus;
use seedfarm_store::{AttemptLog, JobRow, Store, StoreError, StoredFingerprint};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::CoordinatorError;
use crate::board::Board;
use crate::distribution::Distribution;
use crate::hub::{Hub, JobEvent};
use crate::inspection::Inspection;
use crate::lanes::Ending;
use crate::quotas::Submissions;
use crate::recipes::{LeasedWork, RecipeError, Recipes};
use crate::refusals::Refusals;
use crate::warm::Warm;

/// Files that may be on their way in at once; each is at most `MAX_ARTIFACT_BYTES` in memory.
const UPLOADS: usize = 32;
/// Replays that are judged at once; each holds two pictures.
const JUDGING: usize = 4;
/// Uploaded pictures that are decoded at once.
const DECODING: usize = 4;
/// Workers that may be connected at once.
const SESSIONS: usize = 4096;
/// Watchers of jobs that may be connected at once.
const WATCHERS: usize = 1024;
/// First pause after a fault of the database that may pass.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a coordinator is for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that decides.
    Active,
    /// One that answers what reads, and waits.
    Standby,
}

/// How often a standby's watchers look at the store: the active one's events reach them only over Redis.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How workers are timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) lease_ttl: Duration,
    pub(crate) heartbeat: Duration,
}

/// See the module's documentation.
pub(crate) struct Farm {
    pub(crate) store: Store,
    pub(crate) blob: Blob,
    pub(crate) timing: Timing,
    pub(crate) database: String,
    role: Role,
    /// Where the active coordinator is, as far as a standby knows.
    active: Mutex<Option<String>>,
    reign: Mutex<ReignState>,
    board: Mutex<Board>,
    pub(crate) hub: Hub,
    pub(crate) recipes: Recipes,
    /// Sizes of files that came in lately, so that completions need not look for them.
    pub(crate) arrivals: Warm<ArtifactDigest, u64>,
    /// Fingerprints that are stored, by the JSON in which workers send them.
    pub(crate) fingerprints: Warm<String, KnownFingerprint>,
    /// Held while a job's state changes, in the store and on the board.
    pub(crate) control: tokio::sync::Mutex<()>,
    /// Read by a lane while it flushes; written while images of a job are retried or given up, so that store and
    /// board change together. Taken before `control`.
    pub(crate) turns: tokio::sync::RwLock<()>,
    /// Wakes the claims lane: there may be new work, or new credit.
    pub(crate) wake: Notify,
    pub(crate) endings: mpsc::Sender<Ending>,
    pub(crate) uploads: Semaphore,
    /// Where what workers tell of their attempts is written.
    pub(crate) logs: mpsc::Sender<AttemptLog>,
    /// What uploaded files hold.
    pub(crate) inspection: Inspection,
    /// What workers were refused.
    pub(crate) refusals: Refusals,
    /// What callers may still submit.
    pub(crate) submissions: Submissions,
    /// Workers that may still connect.
    pub(crate) sessions: Arc<Semaphore>,
    /// Watchers that may still connect.
    pub(crate) watchers: Arc<Semaphore>,
    /// What bounds the distribution of models.
    pub(crate) distribution: Distribution,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the coordinator is to stop: streams end, lanes flush.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when what is not stored by now is given up.
    pub(crate) abandoned: CancellationToken,
    /// Files that are compared at once.
    pub(crate) judging: Semaphore,
    /// Uploaded pictures that are decoded at once.
    pub(crate) decoding: Semaphore,
    fatal: Mutex<Option<CoordinatorError>>,
}

/// A fingerprint that is stored, and what a completion is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownFingerprint {
    pub(crate) stored: StoredFingerprint,
    pub(crate) numerics: Numerics,
}

/// The right to write.
#[derive(Debug, Clone, Copy)]
struct ReignState {
    epoch: Epoch,
    in_doubt: bool,
}

/// What [`Farm::new`] needs.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) blob: Blob,
    pub(crate) role: Role,
    pub(crate) epoch: Epoch,
    pub(crate) timing: Timing,
    pub(crate) database: String,
    pub(crate) board: Board,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) endings: mpsc::Sender<Ending>,
    pub(crate) logs: mpsc::Sender<AttemptLog>,
    pub(crate) stopping: CancellationToken,
}

impl Farm {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            store: parts.store,
            blob: parts.blob,
            timing: parts.timing,
            database: parts.database,
            role: parts.role,
            active: Mutex::default(),
            reign: Mutex::new(ReignState { epoch: parts.epoch, in_doubt: false }),
            board: Mutex::new(parts.board),
            hub: Hub::new(parts.bus),
            recipes: Recipes::default(),
            arrivals: Warm::default(),
            fingerprints: Warm::default(),
            control: tokio::sync::Mutex::default(),
            turns: tokio::sync::RwLock::default(),
            wake: Notify::new(),
            endings: parts.endings,
            uploads: Semaphore::new(UPLOADS),
            logs: parts.logs,
            inspection: Inspection::default(),
            refusals: Refusals::default(),
            submissions: Submissions::new(),
            sessions: Arc::new(Semaphore::new(SESSIONS)),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            distribution: Distribution::default(),
            tasks: TaskTracker::new(),
            stopping: parts.stopping,
            abandoned: CancellationToken::new(),
            judging: Semaphore::new(JUDGING),
            decoding: Semaphore::new(DECODING),
            fatal: Mutex::default(),
        })
    }

    /// Whether this is the coordinator that decides.
    pub(crate) fn is_active(&self) -> bool {
        self.role == Role::Active
    }

    /// Waits until a watcher should look at the store though it heard of no change: never on the active
    /// coordinator, which hears of all.
    pub(crate) async fn look_again(&self) {
        match self.role {
            Role::Active => std::future::pending().await,
            Role::Standby => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }

    /// Where the active coordinator is, as far as this standby knows.
    pub(crate) fn active_address(&self) -> Option<String> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where the active coordinator is. Answers whether that is news.
    pub(crate) fn note_active(&self, address: &str) -> bool {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.replace(address.to_owned()).as_deref() != Some(address)
    }

    /// The board. Nothing may be awaited while it is held.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch a job that there is something new to read.
    pub(crate) fn job_changed(&self, job: JobId) {
        self.hub.tell(job, &JobEvent::Changed);
    }

    /// Gives the coordinator up: it must not write any more. The first reason counts.
    pub(crate) fn step_down(&self, why: CoordinatorError) {
        tracing::error!(error = &why as &dyn std::error::Error, "the coordinator steps down");
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.abandoned.cancel();
        self.stopping.cancel();
    }

    /// Why the coordinator gave up, if it did.
    pub(crate) fn verdict(&self) -> Result<(), CoordinatorError> {
        let fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take();
        fatal.map_or(Ok(()), Err)
    }

    /// The epoch in force.
    pub(crate) fn epoch(&self) -> Epoch {
        self.reign().epoch
    }

    /// The lock is lost: until it is held again, a refused epoch is no proof that another reigns.
    pub(crate) fn doubt_reign(&self) {
        self.reign().in_doubt = true;
    }

    /// The lock is held again, under a new epoch.
    pub(crate) fn renew_reign(&self, epoch: Epoch) {
        *self.reign() = ReignState { epoch, in_doubt: false };
    }

    fn reign(&self) -> MutexGuard<'_, ReignState> {
        self.reign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in the store, again and again while its faults may pass: a fault means that nothing
    /// was stored. `None` when the coordinator stops meanwhile, or has lost its reign.
    pub(crate) async fn insist<T, F>(&self, what: &str, mut act: impl FnMut(Epoch) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let epoch = self.epoch();
            match act(epoch).await {
                Ok(value) => return Some(value),
                Err(fault) if self.passes(&fault, epoch) => {
                    tracing::warn!(error = &fault as &dyn std::error::Error, "cannot {what}; trying again");
                }
                Err(fault) => {
                    self.step_down(CoordinatorError::of_store(what, fault));
                    return None;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.abandoned.cancelled() => return None,
            }
        }
    }

    /// The recipes of a range, read again and again while the store's faults may pass.
    pub(crate) async fn read_recipes(
        &self,
        job: &JobRow,
        range: ImageRange,
    ) -> Option<Result<LeasedWork, RecipeError>> {
        let read = |_| async move {
            match self.recipes.of(&self.store, job, range).await {
                Err(RecipeError::Store(fault)) => Err(fault),
                other => Ok(other),
            }
        };
        self.insist("read recipes", read).await
    }

    /// Whether the same call may succeed later.
    fn passes(&self, fault: &StoreError, epoch: Epoch) -> bool {
        let reign = *self.reign();
        let deposed_by_ourselves = reign.in_doubt || reign.epoch != epoch;
        fault.is_transient() || (matches!(fault, StoreError::Deposed { .. }) && deposed_by_ourselves)
    }
}

/// Now, in milliseconds since 1970-01-01 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
