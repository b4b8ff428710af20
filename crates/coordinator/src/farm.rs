//! What every service and task of one coordinator shares.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use seedfarm_blob::Blob;
use seedfarm_core::{Epoch, ImageRange, JobId};
use seedfarm_store::bus::Bus;
use seedfarm_store::{JobRow, Store, StoreError};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::CoordinatorError;
use crate::board::Board;
use crate::hub::{Hub, JobEvent};
use crate::lanes::Ending;
use crate::recipes::{LeasedWork, RecipeError, Recipes};

/// Files that may be on their way in at once; each is at most `MAX_ARTIFACT_BYTES` in memory.
const UPLOADS: usize = 32;
/// Replays that are judged at once; each holds two pictures.
const JUDGING: usize = 4;
/// Uploaded pictures that are decoded at once.
const DECODING: usize = 4;
/// First pause after a fault of the database that may pass.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    reign: Mutex<ReignState>,
    board: Mutex<Board>,
    pub(crate) hub: Hub,
    pub(crate) recipes: Recipes,
    /// Held while a job's state changes, in the store and on the board.
    pub(crate) control: tokio::sync::Mutex<()>,
    /// Wakes the claims lane: there may be new work, or new credit.
    pub(crate) wake: Notify,
    pub(crate) endings: mpsc::Sender<Ending>,
    pub(crate) uploads: Semaphore,
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
    pub(crate) epoch: Epoch,
    pub(crate) timing: Timing,
    pub(crate) database: String,
    pub(crate) board: Board,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) endings: mpsc::Sender<Ending>,
    pub(crate) stopping: CancellationToken,
}

impl Farm {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            store: parts.store,
            blob: parts.blob,
            timing: parts.timing,
            database: parts.database,
            reign: Mutex::new(ReignState { epoch: parts.epoch, in_doubt: false }),
            board: Mutex::new(parts.board),
            hub: Hub::new(parts.bus),
            recipes: Recipes::default(),
            control: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            endings: parts.endings,
            uploads: Semaphore::new(UPLOADS),
            tasks: TaskTracker::new(),
            stopping: parts.stopping,
            abandoned: CancellationToken::new(),
            judging: Semaphore::new(JUDGING),
            decoding: Semaphore::new(DECODING),
            fatal: Mutex::default(),
        })
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
