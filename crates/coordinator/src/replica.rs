//! One coordinator among others on the same database: by turns active and standby.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_blob::Blob;
use seedfarm_core::{CoordinatorId, Epoch, ModelManifest};
use seedfarm_proto::v1::worker_service_server::WorkerServiceServer;
use seedfarm_store::bus::Bus;
use seedfarm_store::{Announcement, AttemptLog, Bid, Reign, Store};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;
use uuid::Uuid;

use crate::auth::Tokens;
use crate::board::{Board, Pace};
use crate::config::WhenHeld;
use crate::farm::{Farm, Parts, Role, Timing};
use crate::lanes::{Ending, completions, logs};
use crate::serve::services;
use crate::services::workers::Workers;
use crate::switch::Switch;
use crate::{CoordinatorConfig, CoordinatorError, active, standby};

/// How often a coordinator says where it is and what it is.
const ANNOUNCE: Duration = Duration::from_secs(2);
/// Coordinators that have said nothing for so long are forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// No epoch was ever this one, so that whatever shows it is refused.
const NO_EPOCH: Epoch = Epoch(-1);

/// What outlives the terms of a coordinator.
pub(crate) struct Replica {
    pub(crate) store: Store,
    pub(crate) manifests: Vec<ModelManifest>,
    pub(crate) pace: Pace,
    pub(crate) switch: Switch,
    /// Cancelled as soon as there is something to answer calls with.
    pub(crate) opened: CancellationToken,
    /// Cancelled when the coordinator is to stop for good.
    pub(crate) stop: CancellationToken,
    me: Me,
    tokens: Tokens,
    when_held: WhenHeld,
    health: HealthReporter,
    /// Wakes the announcer: there is something to tell.
    turned: Notify,
}

/// What the farms of all terms have in common.
struct Me {
    id: CoordinatorId,
    address: String,
    blob: Blob,
    bus: Arc<dyn Bus>,
    timing: Timing,
    database: String,
}

impl Replica {
    /// A replica that has not begun; calls would find a standby.
    pub(crate) fn new(config: &CoordinatorConfig, health: HealthReporter, stop: CancellationToken) -> Self {
        let pace = Pace { lease_ttl: config.lease_ttl, target: config.target_lease };
        let me = Me {
            id: CoordinatorId::from_uuid(Uuid::now_v7()),
            address: config.address.clone(),
            blob: config.blob.clone(),
            bus: Arc::clone(&config.bus),
            timing: Timing { lease_ttl: config.lease_ttl, heartbeat: config.heartbeat },
            database: config.database_description.clone(),
        };
        let (farm, _) = me.farm(&config.store, Role::Standby, NO_EPOCH, Board::new(pace), &stop);
        let switch = Switch::new(Arc::clone(&farm), services(&farm, &config.tokens));
        Self {
            store: config.store.clone(),
            manifests: config.manifests.clone(),
            pace,
            switch,
            opened: CancellationToken::new(),
            stop,
            me,
            tokens: config.tokens.clone(),
            when_held: config.when_held,
            health,
            turned: Notify::new(),
        }
    }

    /// Takes turns until it is told to stop, or cannot go on.
    pub(crate) async fn run(&self) -> Result<(), CoordinatorError> {
        let ended = tokio::select! {
            ended = self.take_turns() => ended,
            never = self.announce() => match never {},
        };
        // The others learn it anyway, from its silence.
        let _ = timeout(GOODBYE, self.store.renounce(self.me.id)).await;
        ended
    }

    async fn take_turns(&self) -> Result<(), CoordinatorError> {
        let mut held = self.first().await?;
        loop {
            let reign = match held.take() {
                Some(reign) => Some(reign),
                None => standby::wait(self).await?,
            };
            let Some(reign) = reign else { return Ok(()) };
            match active::reign(self, reign).await {
                Err(why) if self.may_come_back(&why) => {
                    tracing::warn!(error = &why as &dyn std::error::Error, "the reign is over; standing by");
                }
                ended => return ended,
            }
        }
    }

    /// The right to write, if it is to be had at the start.
    async fn first(&self) -> Result<Option<Reign>, CoordinatorError> {
        let failed = |fault| CoordinatorError::of_store("take over the database", fault);
        if self.when_held == WhenHeld::Fail {
            return self.store.take_over().await.map(Some).map_err(failed);
        }
        match self.store.candidate().await.map_err(failed)?.bid().await.map_err(failed)? {
            Bid::Taken(reign) => Ok(Some(reign)),
            Bid::Held(_) => Ok(None),
        }
    }

    /// Whether a reign that ended like this may be followed by another one of this process, which reads
    /// everything anew.
    fn may_come_back(&self, why: &CoordinatorError) -> bool {
        let passes = match why {
            CoordinatorError::TakenOver { .. } => true,
            CoordinatorError::Store { source, .. } => source.is_transient(),
            _ => false,
        };
        passes && self.when_held == WhenHeld::StandBy && !self.stop.is_cancelled()
    }

    /// A farm that stands by, and knows nothing of workers or leases.
    pub(crate) fn standby(&self) -> Arc<Farm> {
        self.me.farm(&self.store, Role::Standby, NO_EPOCH, Board::new(self.pace), &self.stop).0
    }

    /// A farm that decides.
    pub(crate) fn active(&self, epoch: Epoch, board: Board) -> (Arc<Farm>, Told) {
        self.me.farm(&self.store, Role::Active, epoch, board, &self.stop)
    }

    /// From now on calls go to this farm.
    pub(crate) async fn turn_to(&self, farm: &Arc<Farm>) {
        self.switch.turn_to(Arc::clone(farm), services(farm, &self.tokens));
        if farm.is_active() {
            self.health.set_serving::<WorkerServiceServer<Workers>>().await;
        }
        self.opened.cancel();
        self.turned.notify_one();
    }

    /// Tells whoever watches this replica's health that it is not active any more.
    pub(crate) async fn close_to_workers(&self) {
        self.health.set_not_serving::<WorkerServiceServer<Workers>>().await;
    }

    /// Says again and again where this replica is and what it is.
    async fn announce(&self) -> std::convert::Infallible {
        let mut ticks = interval(ANNOUNCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.opened.cancelled().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.turned.notified() => {}
            }
            let farm = self.switch.farm();
            let epoch = farm.is_active().then(|| farm.epoch());
            let announcement = Announcement { id: self.me.id, address: self.me.address.clone(), epoch };
            if let Err(fault) = self.store.announce(&announcement, FORGET).await {
                tracing::debug!(error = &fault as &dyn std::error::Error, "cannot announce this coordinator");
            }
        }
    }
}

/// What a term's tasks are told.
pub(crate) struct Told {
    pub(crate) ended: mpsc::Receiver<Ending>,
    pub(crate) logs: mpsc::Receiver<AttemptLog>,
}

impl Me {
    fn farm(
        &self,
        store: &Store,
        role: Role,
        epoch: Epoch,
        board: Board,
        stop: &CancellationToken,
    ) -> (Arc<Farm>, Told) {
        let (endings, ended) = mpsc::channel(completions::WAITING);
        let (logs, told) = mpsc::channel(logs::WAITING);
        let farm = Farm::new(Parts {
            store: store.clone(),
            blob: self.blob.clone(),
            role,
            epoch,
            timing: self.timing,
            database: self.database.clone(),
            board,
            bus: Arc::clone(&self.bus),
            endings,
            logs,
            stopping: stop.child_token(),
        });
        (farm, Told { ended, logs: told })
    }
}
