//! A worker without an engine: a session that completes every lease as soon as it is granted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seedfarm_core::{ModelManifest, RecipeTemplate, WorkerId};
use seedfarm_proto::v1::session_request::Message as ToCoordinator;
use seedfarm_proto::v1::session_response::Message as FromCoordinator;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_proto::{MAX_MESSAGE_BYTES, PROTOCOL, v1};
use seedfarm_runtime::{Bearer, endpoint};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::latency::Latencies;

/// Messages that may wait to be sent.
const WAITING: usize = 256;

type Client = WorkerServiceClient<InterceptedService<Channel, Bearer>>;

/// What every session of a run shares.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) manifest: ModelManifest,
    /// How each image is said to be rendered, as JSON.
    pub(super) fingerprint: String,
    /// The one picture file that stands for all, which was stored before.
    pub(super) file: v1::RenderedImage,
    /// Leases held at once.
    pub(super) credits: u32,
    /// True while what happens is counted.
    pub(super) counting: Arc<AtomicBool>,
    /// Images of all sessions that were settled while it was.
    pub(super) images: Arc<AtomicU64>,
    /// True when the run is over.
    pub(super) over: Arc<AtomicBool>,
}

/// What a session counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Leases that were settled.
    pub(super) leases: u64,
    /// Images in them.
    pub(super) images: u64,
    /// From a completion's sending to its settling.
    pub(super) settle: Latencies,
    /// From a credit's sending to the next grant.
    pub(super) grant: Latencies,
}

impl Counted {
    /// Adds what another session counted.
    pub(super) fn add(&mut self, other: Self) {
        self.leases += other.leases;
        self.images += other.images;
        self.settle.extend(other.settle);
        self.grant.extend(other.grant);
    }
}

/// Opens the connection of a worker.
///
/// # Errors
/// If nobody answers.
pub(super) async fn connect(url: &str, token: &str) -> Result<Client> {
    let channel = endpoint::endpoint(url, None)?.connect().await?;
    let wire = InterceptedService::new(channel, Bearer::new(token)?);
    Ok(WorkerServiceClient::new(wire).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// Runs one session until the run is over; it asks for a lease for each that it completes.
///
/// # Errors
/// If the coordinator refuses the session or anything in it.
pub(super) async fn run(terms: Terms, worker: WorkerId) -> Result<Counted> {
    converse(terms, worker, None).await
}

/// Runs one session until the run is over; it asks for a lease at each tick, the first after `delay`.
///
/// # Errors
/// If the coordinator refuses the session or anything in it.
pub(super) async fn run_paced(
    terms: Terms,
    worker: WorkerId,
    every: Duration,
    delay: Duration,
) -> Result<Counted> {
    let mut pace = interval_at(tokio::time::Instant::now() + delay, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    converse(terms, worker, Some(pace)).await
}

async fn converse(terms: Terms, worker: WorkerId, mut pace: Option<Interval>) -> Result<Counted> {
    let mut client = connect(&terms.url, &terms.token).await?;
    let (requests, waiting) = mpsc::channel(WAITING);
    requests.send(message(ToCoordinator::Hello(hello(&terms, worker)?))).await?;
    let mut responses = client.session(ReceiverStream::new(waiting)).await?.into_inner();
    let mut session = Session {
        terms,
        requests,
        sent: HashMap::new(),
        asked: VecDeque::new(),
        heartbeat: None,
        is_paced: pace.is_some(),
        counted: Counted::default(),
    };
    while !session.terms.over.load(Ordering::Relaxed) {
        tokio::select! {
            response = responses.message() => {
                let Some(response) = response? else { break };
                session.hear(response).await?;
            }
            () = due(&mut session.heartbeat) => session.beat().await?,
            () = due(&mut pace) => session.ask(1).await?,
        }
    }
    Ok(session.counted)
}

async fn due(heartbeat: &mut Option<Interval>) {
    match heartbeat {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// A completion that is not settled yet.
struct Sent {
    at: Instant,
    images: u64,
    fence: v1::Fence,
}

struct Session {
    terms: Terms,
    requests: mpsc::Sender<v1::SessionRequest>,
    /// By lease.
    sent: HashMap<i64, Sent>,
    /// When each credit was sent for which there is no grant yet.
    asked: VecDeque<Instant>,
    heartbeat: Option<Interval>,
    /// Whether it asks by the clock.
    is_paced: bool,
    counted: Counted,
}

impl Session {
    async fn hear(&mut self, response: v1::SessionResponse) -> Result<()> {
        match response.message {
            Some(FromCoordinator::Welcome(welcome)) => {
                let ms = u64::from(welcome.heartbeat_interval_ms.max(1));
                self.heartbeat = Some(interval(Duration::from_millis(ms)));
                if self.is_paced { Ok(()) } else { self.ask(self.terms.credits).await }
            }
            Some(FromCoordinator::Grant(grant)) => self.complete(grant).await,
            Some(FromCoordinator::Settled(settled)) => self.settled(&settled),
            _ => Ok(()),
        }
    }

    async fn ask(&mut self, leases: u32) -> Result<()> {
        self.asked.extend((0..leases).map(|_| Instant::now()));
        let credit = v1::Credit { device: 0, leases };
        Ok(self.requests.send(message(ToCoordinator::Credit(credit))).await?)
    }

    async fn complete(&mut self, grant: v1::Grant) -> Result<()> {
        let asked = self.asked.pop_front().context("a lease came that nobody asked for")?;
        if self.counting() {
            self.counted.grant.push(asked.elapsed());
        }
        let complete = completion(grant, &self.terms)?;
        let fence = complete.fence.context("a grant lacks its fence")?;
        let images = complete.images.len() as u64;
        self.sent.insert(fence.lease_id, Sent { at: Instant::now(), images, fence });
        self.requests.send(message(ToCoordinator::Complete(complete))).await?;
        if self.is_paced { Ok(()) } else { self.ask(1).await }
    }

    fn settled(&mut self, settled: &v1::Settled) -> Result<()> {
        let fence = settled.fence.context("a settlement lacks its fence")?;
        let sent = self.sent.remove(&fence.lease_id).context("a lease was settled twice")?;
        let accepted = settled.receptions().filter(|reception| *reception == v1::Reception::Accepted).count();
        ensure!(
            accepted as u64 == sent.images,
            "{accepted} of {} images of a lease were accepted",
            sent.images
        );
        if self.counting() {
            self.counted.settle.push(sent.at.elapsed());
            self.counted.leases += 1;
            self.counted.images += sent.images;
            self.terms.images.fetch_add(sent.images, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<()> {
        let held = self.sent.values().map(|sent| sent.fence).collect();
        Ok(self
            .requests
            .send(message(ToCoordinator::Heartbeat(v1::Heartbeat { held, resting: Vec::new() })))
            .await?)
    }

    fn counting(&self) -> bool {
        self.terms.counting.load(Ordering::Relaxed)
    }
}

pub(super) fn message(message: ToCoordinator) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}

pub(super) fn hello(terms: &Terms, worker: WorkerId) -> Result<v1::Hello> {
    Ok(v1::Hello {
        worker_id: worker.to_string(),
        name: "bench".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        devices: vec![v1::Device {
            index: 0,
            name: "none".to_owned(),
            backend: "cpu".to_owned(),
            memory_bytes: 0,
            fingerprints_json: vec![terms.fingerprint.clone()],
        }],
        model_manifests_json: vec![serde_json::to_string(&terms.manifest)?],
        held: Vec::new(),
        adapters_json: Vec::new(),
        fetches_bytes: 0,
        acceptance: None,
        protocol: PROTOCOL,
        instance: worker.to_string(),
    })
}

/// What a worker sends that has rendered a lease.
///
/// # Errors
/// If the grant cannot be read.
pub(super) fn completion(grant: v1::Grant, terms: &Terms) -> Result<v1::Complete> {
    Ok(v1::Complete {
        images: images(&grant, &terms.file)?,
        fence: grant.fence,
        job_id: grant.job_id,
        fingerprint_json: terms.fingerprint.clone(),
        failure: None,
        log: String::new(),
    })
}

/// A result for every image of a lease: its own recipe, and the one file.
fn images(grant: &v1::Grant, file: &v1::RenderedImage) -> Result<Vec<v1::RenderedImage>> {
    let templates = grant.templates_json.iter().map(|json| RecipeTemplate::from_json(json));
    let templates = templates.collect::<Result<Vec<_>, _>>()?;
    let image = |leased: &v1::LeasedImage| {
        let template = templates.get(leased.template as usize).context("a lease lacks a template")?;
        let recipe = template.clone().with_seed(leased.seed).digest();
        Ok(v1::RenderedImage { index: leased.index, recipe_digest: recipe.to_string(), ..file.clone() })
    };
    grant.images.iter().map(image).collect()
}
