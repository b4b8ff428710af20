//! Handing out models: how much of it happens at once, and telling workers what to fetch.
//!
//! Core decides who should fetch what; here the question is put once a second, and only while a worker is
//! connected that fetches at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use seedfarm_core::distribution::wishes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::Status;

use crate::farm::Farm;
use crate::faults;

/// Parts on their way in at once; each is in memory.
const PARTS: usize = 8;
/// Files that are put together or verified at once; each is read from end to end.
const READING: usize = 2;
/// Files on their way to workers at once.
const SENDING: usize = 32;
/// How long a caller may wait for its turn.
const TURN: Duration = Duration::from_secs(10);
/// When a caller that got no turn should come back.
const COME_BACK: Duration = Duration::from_secs(2);
/// How often is asked who should fetch what.
const ASK: Duration = Duration::from_secs(1);
/// How often uploads that were given up are looked for.
const SWEEP: Duration = Duration::from_secs(6 * 3600);
/// How long the parts of an upload are kept that does not go on.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What bounds the distribution of models.
#[derive(Debug)]
pub(crate) struct Distribution {
    parts: Semaphore,
    reading: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    /// Held while packages are added or removed together with their files.
    pub(crate) registry: tokio::sync::Mutex<()>,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            parts: Semaphore::new(PARTS),
            reading: Arc::new(Semaphore::new(READING)),
            sending: Arc::new(Semaphore::new(SENDING)),
            registry: tokio::sync::Mutex::default(),
        }
    }
}

impl Distribution {
    /// A turn to take a part in.
    pub(crate) async fn part_turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        let turn = timeout(TURN, self.parts.acquire()).await;
        turn.map_err(|_| busy("parts of models are on their way in"))?.map_err(|_| faults::stopping())
    }

    /// A turn to read a whole file.
    pub(crate) async fn reading_turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = timeout(TURN, Arc::clone(&self.reading).acquire_owned()).await;
        turn.map_err(|_| busy("files of models are being checked"))?.map_err(|_| faults::stopping())
    }

    /// A turn to send a file.
    pub(crate) fn sending_turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = Arc::clone(&self.sending).try_acquire_owned();
        turn.map_err(|_| busy("files of models are on their way to workers"))
    }
}

fn busy(what: &str) -> Status {
    seedfarm_proto::error::try_again("MODELS_BUSY", format!("too many {what}: try again"), COME_BACK)
}

/// Tells workers what to fetch, and clears what was given up, until the coordinator stops.
pub(crate) async fn run(farm: Arc<Farm>) {
    let mut ask = interval(ASK);
    let mut sweep = interval(SWEEP);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ask.tick() => tell(&farm).await,
            _ = sweep.tick() => clear(&farm).await,
            () = farm.stopping.cancelled() => return,
        }
    }
}

async fn tell(farm: &Farm) {
    if !farm.board().has_fetchers() {
        return;
    }
    let packages = match farm.store.package_sizes().await {
        Ok(packages) if packages.is_empty() => return,
        Ok(packages) => packages,
        Err(fault) => {
            tracing::debug!(error = &fault as &dyn std::error::Error, "nobody is told what to fetch");
            return;
        }
    };
    let mut board = farm.board();
    let (demands, provisions) = (board.demands(), board.provisions(Instant::now()));
    for wish in wishes(&demands, &provisions, &packages) {
        tracing::info!(
            worker.id = %wish.worker, packages = wish.packages.len(), "a worker is told to fetch what jobs wait for"
        );
        board.tell_wish(&wish);
    }
}

async fn clear(farm: &Farm) {
    match farm.blob.files().sweep(SystemTime::now() - KEPT).await {
        Ok(0) => {}
        Ok(parts) => tracing::info!(parts, "parts of uploads that were given up are removed"),
        Err(fault) => {
            tracing::warn!(
                error = &fault as &dyn std::error::Error,
                "uploads that were given up are left until the next sweep"
            );
        }
    }
}
