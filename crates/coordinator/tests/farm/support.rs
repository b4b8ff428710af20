//! A coordinator of a test's own, and clients of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seedfarm_blob::{Blob, BlobLocation};
use seedfarm_coordinator::{CoordinatorConfig, CoordinatorError, Tokens, WhenHeld, serve};
use seedfarm_core::digest::ComponentDigest;
use seedfarm_core::model::ModelDefaults;
use seedfarm_core::plan::{JobSpec, PromptLine, Settings};
use seedfarm_core::sampling::{BetaCurve, Prediction, Spacing};
use seedfarm_core::{JobTerms, ModelManifest, NoiseSchedule, NoiseSource, Numerics, Sampler, SeedPolicy};
use seedfarm_proto::v1::farm_service_client::FarmServiceClient;
use seedfarm_proto::v1::job_service_client::JobServiceClient;
use seedfarm_proto::v1::model_service_client::ModelServiceClient;
use seedfarm_proto::v1::replay_service_client::ReplayServiceClient;
use seedfarm_proto::{convert, v1};
use seedfarm_store::Store;
use seedfarm_store::bus::LocalBus;
use seedfarm_store::testing::TestDatabase;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Longer than anything here takes; only a failure waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const CLIENT_TOKEN: &str = "client-token";
pub const WORKER_TOKEN: &str = "worker-token";

/// Sends a bearer token along.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().unwrap())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub type Authorised = InterceptedService<Channel, Bearer>;

/// How a test's coordinator is timed.
#[derive(Clone, Copy)]
pub struct Timing {
    pub lease_ttl: Duration,
    pub heartbeat: Duration,
}

/// Leases that outlive the test unless they are settled.
pub const CALM: Timing = Timing { lease_ttl: Duration::from_secs(300), heartbeat: Duration::from_millis(50) };
/// Leases that outlive what a test does with them, and short deferrals.
pub const BRISK: Timing = Timing { lease_ttl: Duration::from_secs(3), heartbeat: Duration::from_millis(20) };
/// Leases that expire as soon as they are not renewed.
pub const HASTY: Timing =
    Timing { lease_ttl: Duration::from_millis(150), heartbeat: Duration::from_millis(20) };

/// A database, a folder of pictures and at most one coordinator.
pub struct Farm {
    running: Option<Running>,
    pub options: PgConnectOptions,
    /// Dropped after the coordinator; absent for a database that the test itself brings.
    _database: Option<TestDatabase>,
    pub folder: Arc<TempDir>,
    timing: Timing,
    when_held: WhenHeld,
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    ended: oneshot::Receiver<Result<(), CoordinatorError>>,
    /// Its own, so that dropping it kills everything of the coordinator at once.
    runtime: Option<Runtime>,
}

impl Farm {
    pub async fn start(timing: Timing) -> Self {
        let database = TestDatabase::create().await;
        let options = database.options();
        Self { _database: Some(database), ..Self::on(options, timing).await }
    }

    /// Starts on a database that the test itself brings.
    pub async fn on(options: PgConnectOptions, timing: Timing) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let when_held = WhenHeld::Fail;
        let mut farm = Self { running: None, options, _database: None, folder, timing, when_held };
        farm.begin().await;
        farm
    }

    /// Starts one that stands by when it is not active.
    pub async fn start_replica(timing: Timing) -> Self {
        let mut farm = Self::start(timing).await;
        farm.stop().await.unwrap();
        farm.when_held = WhenHeld::StandBy;
        farm.begin().await;
        farm
    }

    /// Starts a second coordinator on the database and the pictures of this one.
    pub async fn replica(&self) -> Self {
        let (options, folder) = (self.options.clone(), Arc::clone(&self.folder));
        let (timing, when_held) = (self.timing, WhenHeld::StandBy);
        let mut farm = Self { running: None, options, _database: None, folder, timing, when_held };
        farm.begin().await;
        farm
    }

    /// What the coordinator says of the farm.
    pub async fn status(&self) -> v1::GetStatusResponse {
        self.operator().await.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until the coordinator's status is as it should be.
    pub async fn until(&self, enough: impl Fn(&v1::GetStatusResponse) -> bool) {
        let look = async {
            while !enough(&self.status().await) {
                tokio::task::yield_now().await;
            }
        };
        within(look).await;
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.running.as_ref().unwrap().address)
    }

    /// Starts a coordinator on what is there.
    pub async fn begin(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = self.config(listener).await;
        self.running = Some(Running::start(config));
    }

    pub async fn config(&self, listener: TcpListener) -> CoordinatorConfig {
        let location = BlobLocation::Folder(self.folder.path().join("blobs"));
        CoordinatorConfig {
            address: format!("http://{}", listener.local_addr().unwrap()),
            when_held: self.when_held,
            listener,
            store: Store::open(self.options.clone(), 8).await.unwrap(),
            blob: Blob::open(&location).await.unwrap(),
            manifests: vec![manifest("tiny")],
            tokens: Tokens { client: CLIENT_TOKEN.into(), worker: WORKER_TOKEN.into() },
            tls: None,
            lease_ttl: self.timing.lease_ttl,
            heartbeat: self.timing.heartbeat,
            target_lease: Duration::from_secs(20),
            bus: Arc::new(LocalBus::new()),
            database_description: "a test's".into(),
        }
    }

    /// Kills the coordinator without a chance to say anything.
    pub fn kill(&mut self) {
        drop(self.running.take().unwrap());
    }

    /// Asks the coordinator to stop and waits for it.
    pub async fn stop(&mut self) -> Result<(), CoordinatorError> {
        self.running.as_ref().unwrap().shutdown.cancel();
        self.ended().await
    }

    /// Waits until the coordinator ends of itself.
    pub async fn ended(&mut self) -> Result<(), CoordinatorError> {
        let mut running = self.running.take().unwrap();
        within(&mut running.ended).await.unwrap()
    }

    pub async fn channel(&self) -> Channel {
        let address = self.running.as_ref().unwrap().address;
        Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
    }

    pub async fn jobs(&self) -> JobServiceClient<Authorised> {
        JobServiceClient::with_interceptor(self.channel().await, Bearer::new(CLIENT_TOKEN))
    }

    pub async fn replays(&self) -> ReplayServiceClient<Authorised> {
        ReplayServiceClient::with_interceptor(self.channel().await, Bearer::new(CLIENT_TOKEN))
    }

    pub async fn operator(&self) -> FarmServiceClient<Authorised> {
        FarmServiceClient::with_interceptor(self.channel().await, Bearer::new(CLIENT_TOKEN))
    }

    pub async fn models(&self) -> ModelServiceClient<Authorised> {
        ModelServiceClient::with_interceptor(self.channel().await, Bearer::new(CLIENT_TOKEN))
    }

    pub async fn store(&self) -> Store {
        Store::open(self.options.clone(), 4).await.unwrap()
    }

    /// Submits a job of `count` images of one prompt.
    pub async fn submit(&self, count: u32) -> v1::Job {
        let request = convert::submission(spec(&["a red apple"], count), "tiny".into(), unique());
        self.jobs().await.submit_job(request).await.unwrap().into_inner().job.unwrap()
    }

    pub async fn images(&self, id: &str) -> Vec<v1::Image> {
        let request = v1::ListImagesRequest { job_id: id.to_owned(), from_index: 0, limit: 0 };
        self.jobs().await.list_images(request).await.unwrap().into_inner().images
    }

    pub async fn watch(&self, id: &str) -> Streaming<v1::WatchJobResponse> {
        let request = v1::WatchJobRequest { job_id: id.to_owned(), previews: true };
        self.jobs().await.watch_job(request).await.unwrap().into_inner()
    }

    /// Watches a job to its end and answers its last state.
    pub async fn finished(&self, id: &str) -> v1::Job {
        let mut watch = self.watch(id).await;
        let mut last = None;
        while let Some(event) = within(watch.message()).await.unwrap() {
            last = event.job;
        }
        last.unwrap()
    }

    /// Holds everything that is stored against the store's own invariants.
    pub async fn is_consistent(&self) {
        assert_eq!(seedfarm_store::check(&self.store().await).await.unwrap(), Vec::new());
    }
}

impl Running {
    fn start(config: CoordinatorConfig) -> Self {
        let address = config.listener.local_addr().unwrap();
        let listener = config.listener.into_std().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let token = shutdown.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let _ = end.send(serve(CoordinatorConfig { listener, ..config }, token).await);
        });
        Self { address, shutdown, ended, runtime: Some(runtime) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// Fails instead of hanging.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

pub fn unique() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A model without weights; its name makes its digest.
pub fn manifest(name: &str) -> ModelManifest {
    ModelManifest {
        name: name.into(),
        family: "stable-diffusion".into(),
        components: BTreeMap::from([("unet".to_owned(), ComponentDigest::of_bytes(name.as_bytes()))]),
        noise_schedule: NoiseSchedule {
            train_steps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_curve: BetaCurve::ScaledLinear,
            prediction: Prediction::Epsilon,
            spacing: Spacing::Leading,
            steps_offset: 1,
            set_alpha_to_one: false,
            ..NoiseSchedule::default()
        },
        defaults: ModelDefaults { width: 8, height: 8, steps: 4, guidance: 3.0, sampler: Sampler::Ddim },
        size_multiple: 8,
        max_side: 512,
        inpainting: false,
        weights_bytes: 1,
        licence: None,
    }
}

pub fn spec(prompts: &[&str], count: u32) -> JobSpec {
    let line = |(i, prompt): (usize, &&str)| PromptLine {
        line: i + 1,
        prompt: (*prompt).to_owned(),
        seed: None,
        settings: Settings::default(),
    };
    JobSpec {
        name: "a test".into(),
        prompts: prompts.iter().enumerate().map(line).collect(),
        count,
        seed: 42,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: Numerics::Strict,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    }
}
