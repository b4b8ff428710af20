//! The coordinator from start to stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::{JobId, WorkerId};
use seedfarm_proto::v1::{
    farm_service_server::FarmServiceServer, job_service_server::JobServiceServer,
    model_service_server::ModelServiceServer, replay_service_server::ReplayServiceServer,
    worker_service_server::WorkerServiceServer,
};
use seedfarm_proto::{DESCRIPTORS, MAX_MESSAGE_BYTES};
use seedfarm_store::{Reign, Snapshot, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

use crate::auth::{Gate, Tokens};
use crate::board::{Board, Pace};
use crate::farm::{Farm, Parts, Timing, now_ms};
use crate::lanes::{claims, completions};
use crate::services::{farm::Operator, jobs::Jobs, models::Models, replays::Replays, workers::Workers};
use crate::{CoordinatorConfig, CoordinatorError, reign, replays, upkeep};

/// How long a call may take to its first answer; an upload, to its only one.
const CALL: Duration = Duration::from_secs(120);
/// How often a silent connection is tried, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams of one connection at once.
const STREAMS: u32 = 1024;
/// How long open calls get when the coordinator stops, and as long again what is not stored yet.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a coordinator until `shutdown` is cancelled.
///
/// # Errors
/// At start when another coordinator holds the database, or the database cannot be used; later when
/// another one has taken over, or a fault does not pass.
pub async fn serve(config: CoordinatorConfig, shutdown: CancellationToken) -> Result<(), CoordinatorError> {
    let CoordinatorConfig { listener, store, blob, manifests, tokens, tls, .. } = config;
    let failed = |what: &'static str| move |fault| CoordinatorError::of_store(what, fault);
    let held = store.take_over().await.map_err(failed("take over the database"))?;
    store.put_models(&manifests).await.map_err(failed("store the models"))?;
    let pace = Pace { lease_ttl: config.lease_ttl, target: config.target_lease };
    let board = rebuild(&store, &held, pace).await.map_err(failed("read unfinished work"))?;
    let (endings, ended) = mpsc::channel(completions::WAITING);
    let farm = Farm::new(Parts {
        store,
        blob,
        epoch: held.epoch(),
        timing: Timing { lease_ttl: config.lease_ttl, heartbeat: config.heartbeat },
        database: config.database_description,
        board,
        bus: config.bus,
        endings,
        stopping: shutdown.child_token(),
    });
    let router = router(&farm, &tokens, tls).await?;
    let running = Running::start(&farm, held, ended);
    tracing::info!(epoch = %farm.epoch(), "the coordinator reigns");
    let served = listen(&farm, router, listener).await;
    running.stop(&farm).await;
    farm.verdict().and(served)
}

/// Reads what is unfinished.
async fn rebuild(store: &Store, reign: &Reign, pace: Pace) -> Result<Board, StoreError> {
    let snapshot = store.snapshot(reign.epoch()).await?;
    let avoid = originals(store, &snapshot).await?;
    let avoid = |job| avoid.get(&job).copied().into_iter().collect();
    Ok(Board::rebuilt(pace, snapshot, avoid, Instant::now(), now_ms()))
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

/// All services behind their gates.
async fn router(
    farm: &Arc<Farm>,
    tokens: &Tokens,
    tls: Option<tonic::transport::ServerTlsConfig>,
) -> Result<Router, CoordinatorError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<JobServiceServer<Jobs>>().await;
    health.set_serving::<WorkerServiceServer<Workers>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut server = Server::builder()
        .timeout(CALL)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS));
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    macro_rules! gated {
        ($server:ident, $service:expr, $gate:expr) => {
            InterceptedService::new(
                $server::new($service)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
                $gate,
            )
        };
    }
    let (client, worker) = (Gate::for_clients(tokens), Gate::for_workers(tokens));
    Ok(server
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(gated!(JobServiceServer, Jobs(Arc::clone(farm)), client.clone()))
        .add_service(gated!(ReplayServiceServer, Replays(Arc::clone(farm)), client.clone()))
        .add_service(gated!(ModelServiceServer, Models(Arc::clone(farm)), client.clone()))
        .add_service(gated!(FarmServiceServer, Operator(Arc::clone(farm)), client))
        .add_service(gated!(WorkerServiceServer, Workers(Arc::clone(farm)), worker)))
}

/// Serves until the coordinator stops, then gives open calls a grace; streams tell their readers themselves.
async fn listen(farm: &Arc<Farm>, router: Router, listener: TcpListener) -> Result<(), CoordinatorError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopping = farm.stopping.clone();
    let mut serving =
        std::pin::pin!(router.serve_with_incoming_shutdown(incoming, stopping.cancelled_owned()));
    tokio::select! {
        served = &mut serving => served?,
        () = farm.stopping.cancelled() => {
            if let Ok(served) = timeout(GRACE, serving).await {
                served?;
            }
        }
    }
    Ok(())
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
    fn start(farm: &Arc<Farm>, held: Reign, ended: mpsc::Receiver<crate::lanes::Ending>) -> Self {
        let (last_ending, last_write) = (CancellationToken::new(), CancellationToken::new());
        farm.tasks.spawn(upkeep::expire(Arc::clone(farm)));
        farm.tasks.spawn(upkeep::note_presence(Arc::clone(farm)));
        farm.tasks.spawn(replays::judge_all(Arc::clone(farm)));
        Self {
            claims: tokio::spawn(claims::run(Arc::clone(farm))),
            completions: tokio::spawn(completions::run(Arc::clone(farm), ended, last_ending.clone())),
            reign: tokio::spawn(reign::keep(Arc::clone(farm), held, last_write.clone())),
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
