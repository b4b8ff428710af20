//! A worker without an engine: a session that completes every lease as soon as it is granted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seedfarm_core::{ModelManifest, PixelDigest, RecipeTemplate, WorkerId};
use seedfarm_proto::v1::session_request::Message as ToCoordinator;
use seedfarm_proto::v1::session_response::Message as FromCoordinator;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_proto::{MAX_MESSAGE_BYTES, v1};
use seedfarm_runtime::{Bearer, endpoint};
use tokio::sync::mpsc;
use tokio::time::{Interval, interval};
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

/// Opens the connection of a worker.
///
/// # Errors
/// If nobody answers.
pub(super) async fn connect(url: &str, token: &str) -> Result<Client> {
    let channel = endpoint::endpoint(url, None)?.connect().await?;
    let wire = InterceptedService::new(channel, Bearer::new(token)?);
    Ok(WorkerServiceClient::new(wire).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// Runs one session until the run is over.
///
/// # Errors
/// If the coordinator refuses the session or anything in it.
pub(super) async fn run(terms: Terms, worker: WorkerId) -> Result<Counted> {
    let mut client = connect(&terms.url, &terms.token).await?;
    let (requests, waiting) = mpsc::channel(WAITING);
    requests.send(message(ToCoordinator::Hello(hello(&terms, worker)?))).await?;
    let mut responses = client.session(ReceiverStream::new(waiting)).await?.into_inner();
    let counted = Counted::default();
    let mut session =
        Session { terms, requests, sent: HashMap::new(), credit: Instant::now(), heartbeat: None, counted };
    while !session.terms.over.load(Ordering::Relaxed) {
        tokio::select! {
            response = responses.message() => {
                let Some(response) = response? else { break };
                session.hear(response).await?;
            }
            () = due(&mut session.heartbeat) => session.beat().await?,
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
    /// When the last credit was sent.
    credit: Instant,
    heartbeat: Option<Interval>,
    counted: Counted,
}

impl Session {
    async fn hear(&mut self, response: v1::SessionResponse) -> Result<()> {
        match response.message {
            Some(FromCoordinator::Welcome(welcome)) => {
                let ms = u64::from(welcome.heartbeat_interval_ms.max(1));
                self.heartbeat = Some(interval(Duration::from_millis(ms)));
                self.ask(self.terms.credits).await
            }
            Some(FromCoordinator::Grant(grant)) => self.complete(grant).await,
            Some(FromCoordinator::Settled(settled)) => self.settled(&settled),
            _ => Ok(()),
        }
    }

    async fn ask(&mut self, leases: u32) -> Result<()> {
        self.credit = Instant::now();
        let credit = v1::Credit { device: 0, leases };
        Ok(self.requests.send(message(ToCoordinator::Credit(credit))).await?)
    }

    async fn complete(&mut self, grant: v1::Grant) -> Result<()> {
        if self.counting() {
            self.counted.grant.push(self.credit.elapsed());
        }
        let fence = grant.fence.context("a grant lacks its fence")?;
        let images = images(&grant, &self.terms.file)?;
        self.sent.insert(fence.lease_id, Sent { at: Instant::now(), images: images.len() as u64, fence });
        let complete = v1::Complete {
            fence: Some(fence),
            job_id: grant.job_id,
            images,
            fingerprint_json: self.terms.fingerprint.clone(),
            failure: None,
        };
        self.requests.send(message(ToCoordinator::Complete(complete))).await?;
        self.ask(1).await
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
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<()> {
        let held = self.sent.values().map(|sent| sent.fence).collect();
        Ok(self.requests.send(message(ToCoordinator::Heartbeat(v1::Heartbeat { held }))).await?)
    }

    fn counting(&self) -> bool {
        self.terms.counting.load(Ordering::Relaxed)
    }
}

fn message(message: ToCoordinator) -> v1::SessionRequest {
    v1::SessionRequest { message: Some(message) }
}

fn hello(terms: &Terms, worker: WorkerId) -> Result<v1::Hello> {
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
    })
}

/// A result for every image of a lease: its own recipe, and the one file.
fn images(grant: &v1::Grant, file: &v1::RenderedImage) -> Result<Vec<v1::RenderedImage>> {
    let templates = grant.templates_json.iter().map(|json| RecipeTemplate::from_json(json));
    let templates = templates.collect::<Result<Vec<_>, _>>()?;
    let image = |leased: &v1::LeasedImage| {
        let template = templates.get(leased.template as usize).context("a lease lacks a template")?;
        let recipe = template.clone().with_seed(leased.seed).digest();
        let pixels = PixelDigest::of_bytes(recipe.as_bytes());
        Ok(v1::RenderedImage {
            index: leased.index,
            recipe_digest: recipe.to_string(),
            pixel_digest: pixels.to_string(),
            ..file.clone()
        })
    };
    grant.images.iter().map(image).collect()
}
