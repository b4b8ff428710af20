//! The node: the one place that knows the state of every lease this worker holds.
//!
//! It is told of everything through one queue of [`Event`]s and does nothing that takes long. Devices
//! render, store threads write, uploads send and the link listens, each on its own.

mod held;
mod owner;
mod pace;
mod slot;
mod stock;
mod talk;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::owner::Limits;
use seedfarm_core::{Fingerprint, PackageDigest, WorkerId};
use seedfarm_engine::DeviceSpec;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_proto::v1::worker_service_server::SERVICE_NAME;
use seedfarm_proto::{PROTOCOL, v1};
use seedfarm_runtime::{Bearer, Replicas};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::held::Held;
use self::slot::{Shared, Slot};
use self::talk::Talk;
use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::event::Event;
use crate::home::{Home, at};
use crate::lease::Stop;
use crate::link::{Client, Link};
use crate::outbox::{Outbox, StoredImage};
use crate::owner::Owner;
use crate::pictures::PictureStore;
use crate::renderer::{Fault, Renderer};
use crate::shelf::Shelf;
use crate::storing::Names;
use crate::upload::Uploader;

/// Events that may wait. Threads that tell more wait themselves.
const EVENTS: usize = 1024;

/// A device, and what it renders with.
pub struct RenderDevice {
    /// For people.
    pub name: String,
    /// How it is asked for.
    pub spec: DeviceSpec,
    /// `cpu` or `cuda`.
    pub backend: String,
    /// The device's memory; 0 where it is not known.
    pub memory_bytes: u64,
    /// How it renders, one for each class of arithmetic that it offers.
    pub fingerprints: Vec<Fingerprint>,
    /// Most images rendered together, at least 1.
    pub batch: usize,
    /// What renders. It moves to the device's thread.
    pub renderer: Box<dyn Renderer>,
}

pub use self::stock::Stock;

/// Serves a coordinator with `devices`, which render with what `stock` holds. Of `config`, what is about finding models
/// and devices is not looked at.
///
/// # Errors
/// As [`crate::run`].
pub async fn serve(
    config: WorkerConfig,
    stock: Stock,
    devices: Vec<RenderDevice>,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    serve_with(config, stock, None, devices, shutdown).await
}

/// Serves with what stands on a shelf, and fetches what the farm wants where the shelf has room for it.
pub(crate) async fn serve_from(
    config: WorkerConfig,
    shelf: Arc<Shelf>,
    devices: Vec<RenderDevice>,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    serve_with(config, shelf.stock(), Some(shelf), devices, shutdown).await
}

async fn serve_with(
    config: WorkerConfig,
    stock: Stock,
    shelf: Option<Arc<Shelf>>,
    devices: Vec<RenderDevice>,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    let home = Home::open(&config.data_dir)?;
    let outbox = Outbox::open(home.outbox(), config.outbox_limit_bytes).map_err(at(&home.outbox()))?;
    let (events, told) = mpsc::channel(EVENTS);
    let names: Vec<_> = devices.iter().map(|one| (one.spec.to_string(), one.name.clone())).collect();
    let owner = Owner::start(&config, &home, &names)?;
    let mut node = Node::start(&config, &home, stock, shelf, devices, Arc::new(outbox), events.clone())?;
    node.rule(owner.ruling().clone());
    node.take_up_leftovers().map_err(at(&home.outbox()))?;
    let link = tokio::spawn(node.link().keep_up());
    let fetcher = node.start_to_fetch().map(tokio::spawn);
    let quit = CancellationToken::new();
    let guard = quit.clone().drop_guard();
    let mut watch = tokio::spawn(owner.keep_watch(events, quit));
    let end = tokio::select! {
        end = node.live(told, shutdown) => end,
        // Nobody would keep to the owner's limits any more.
        Err(panic) = &mut watch => std::panic::resume_unwind(panic.into_panic()),
    };
    drop(guard);
    if let Some(fetcher) = fetcher {
        fetcher.abort();
    }
    node.leave(link).await;
    // It ends with its present look; if it panics there, nothing is lost.
    let _ = watch.await;
    end
}

/// Why the worker is leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// The operator wants it to finish what it holds.
    Drained,
    /// It was told to stop: at the first time the images in the making are given up, at the second it
    /// leaves whatever is left.
    Stopped { give_up: Instant, leave: Instant },
}

struct Node {
    worker: WorkerId,
    /// Tells this process from a second one under the same id.
    instance: String,
    stock: Stock,
    limits: Arc<Limits>,
    replicas: Replicas,
    client: Client,
    config: WorkerConfig,
    outbox: Arc<Outbox>,
    uploader: Uploader,
    uploads: JoinSet<()>,
    events: mpsc::Sender<Event>,
    welcomes: watch::Sender<u64>,
    slots: BTreeMap<u32, Slot>,
    names: Names,
    shelf: Option<Arc<Shelf>>,
    wishes: Option<mpsc::Sender<PackageDigest>>,
    held: HashMap<Fence, Held>,
    talk: Talk,
    leaving: Option<Leaving>,
}

impl Node {
    fn start(
        config: &WorkerConfig,
        home: &Home,
        stock: Stock,
        shelf: Option<Arc<Shelf>>,
        devices: Vec<RenderDevice>,
        outbox: Arc<Outbox>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, WorkerError> {
        let bearer = Bearer::new(&config.token).map_err(WorkerError::Token)?;
        let replicas = Replicas::new(&config.coordinators, SERVICE_NAME);
        let client = WorkerServiceClient::with_interceptor(replicas.clone(), bearer)
            .max_decoding_message_size(seedfarm_proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(seedfarm_proto::MAX_MESSAGE_BYTES);
        let names: Names = Arc::new(RwLock::new(stock.names()));
        let shared = Shared {
            worker: home.id(),
            models: Arc::clone(&names),
            shelf: shelf.clone(),
            outbox: Arc::clone(&outbox),
            events: events.clone(),
            previews: config.previews,
            pictures: Arc::new(PictureStore::new(client.clone(), home.id(), config.backoff)),
            give_back_memory: config.give_back_memory,
        };
        let start = |(index, device)| Ok((index, Slot::start(index, device, &shared)?));
        let slots: BTreeMap<u32, Slot> = (0..).zip(devices).map(start).collect::<Result<_, _>>()?;
        let (welcomes, welcomed) = watch::channel(0);
        let uploader =
            Uploader::new(client.clone(), Arc::clone(&outbox), home.id(), config.backoff, welcomed);
        Ok(Self {
            worker: home.id(),
            instance: uuid::Uuid::new_v4().simple().to_string(),
            stock,
            limits: Arc::default(),
            replicas,
            client,
            config: config.clone(),
            outbox,
            uploader,
            uploads: JoinSet::new(),
            events,
            welcomes,
            slots,
            names,
            shelf,
            wishes: None,
            held: HashMap::new(),
            talk: Talk::default(),
            leaving: None,
        })
    }

    fn link(&self) -> Link {
        Link {
            client: self.client.clone(),
            turns: self.replicas.turns(),
            events: self.events.clone(),
            worker: self.worker,
            backoff: self.config.backoff,
        }
    }

    /// Holds again what an earlier process left in the outbox.
    fn take_up_leftovers(&mut self) -> std::io::Result<()> {
        for leftover in self.outbox.leftovers()? {
            let (fence, images) = (leftover.fence, leftover.images.clone());
            tracing::info!(
                worker.id = %self.worker, task.id = %fence.lease, images = images.len(),
                "delivering what an earlier run left in the outbox"
            );
            self.held.insert(fence, Held::left_over(leftover));
            images.into_iter().for_each(|image| self.upload(fence, image));
        }
        Ok(())
    }

    /// Lives until there is a reason to leave.
    async fn live(
        &mut self,
        mut told: mpsc::Receiver<Event>,
        shutdown: CancellationToken,
    ) -> Result<(), WorkerError> {
        while !self.may_leave() {
            let stopped = matches!(self.leaving, Some(Leaving::Stopped { .. }));
            let wake = self.next_wake();
            tokio::select! {
                () = shutdown.cancelled(), if !stopped => self.begin_to_stop(),
                event = told.recv() => self.on(event.expect("this node holds a sender itself"))?,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                Some(_) = self.uploads.join_next() => {}
            }
            self.on_time(Instant::now());
        }
        Ok(())
    }

    fn on(&mut self, event: Event) -> Result<(), WorkerError> {
        match event {
            Event::Opening { outbound, close } => self.introduce(outbound, close),
            Event::Ruled(ruling) => self.ruled(*ruling),
            Event::Heard(message) => self.hear(message)?,
            Event::Closed => self.talk.close(),
            Event::Refused(status) => {
                let message = status.message().to_owned();
                return Err(WorkerError::Refused { message, source: status });
            }
            Event::Progress(progress) => self.talk.murmur(v1::session_request::Message::Progress(progress)),
            Event::Stored(fence, image) => self.stored(fence, image),
            Event::Ended(fence, fault) => self.ended(fence, fault),
            Event::Restocked(change) => self.restocked(change),
            Event::Uploaded(fence) => self.change(fence, Held::uploaded),
            Event::UploadRefused(fence, index, reason) => {
                tracing::error!(
                    worker.id = %self.worker, task.id = %fence.lease, image.index = index, reason,
                    "the coordinator refused a picture"
                );
                self.change(fence, |held| held.upload_refused(index, &reason));
            }
        }
        Ok(())
    }

    fn hear(&mut self, message: v1::session_response::Message) -> Result<(), WorkerError> {
        use v1::session_response::Message;
        match message {
            Message::Welcome(welcome) => {
                check_protocol(&welcome)?;
                self.welcomed(&welcome);
            }
            Message::Grant(grant) => self.granted(grant),
            Message::Settled(settled) => self.settled(&settled),
            Message::Revoke(revoke) => self.revoked(&revoke),
            Message::Wanted(wanted) => self.asked_to_fetch(&wanted),
            Message::Drain(v1::Drain {}) => self.begin_to_leave(Leaving::Drained),
        }
        Ok(())
    }

    /// A stream is being opened: says who this is and what it holds.
    fn introduce(&mut self, outbound: mpsc::Sender<v1::SessionRequest>, close: CancellationToken) {
        self.talk.open(outbound, close);
        let hello = self.hello();
        self.talk.say(v1::session_request::Message::Hello(hello));
    }

    fn welcomed(&mut self, welcome: &v1::Welcome) {
        tracing::info!(worker.id = %self.worker, epoch = welcome.epoch, "the coordinator welcomes this worker");
        self.talk.welcome(Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(1))));
        self.welcomes.send_modify(|count| *count += 1);
        self.slots.values_mut().for_each(|slot| slot.credit = 0);
        if self.leaving.is_some() {
            self.talk.say(v1::session_request::Message::Drain(v1::Drain {}));
        }
        if !self.resting().is_empty() {
            self.beat();
        }
        let mut fences: Vec<Fence> = self.held.keys().copied().collect();
        fences.sort_unstable_by_key(|fence| fence.lease);
        for fence in fences {
            self.change(fence, |held| held.offered = false);
        }
    }

    fn granted(&mut self, grant: v1::Grant) {
        let (leaving, wanted) = (self.leaving.is_some(), self.wanted(&grant.model_digest));
        let (fence, held) = match self.slots.get_mut(&grant.device) {
            Some(slot) => slot.take_on(grant, leaving, &wanted),
            None => {
                let error = format!("this worker has no device {}", grant.device);
                let fault = Fault::new(FailureClass::Worker, error);
                (grant.fence.unwrap_or_default().into(), Held::over(grant.job_id, fault, String::new()))
            }
        };
        self.held.insert(fence, held);
        self.offer(fence);
    }

    fn settled(&mut self, settled: &v1::Settled) {
        let fence = Fence::from(settled.fence.unwrap_or_default());
        for reception in settled.receptions() {
            match Reception::try_from(reception) {
                Ok(Reception::Divergent) => tracing::error!(
                    worker.id = %self.worker, task.id = %fence.lease,
                    "the farm has other pixels for an image of this lease in the same numeric class: \
                     this device or another one computes wrongly"
                ),
                Ok(Reception::Stale) => tracing::info!(
                    worker.id = %self.worker, task.id = %fence.lease, "an image came too late and does not count"
                ),
                _ => {}
            }
        }
        self.held.remove(&fence);
        if let Err(error) = self.outbox.forget(&fence) {
            tracing::warn!(task.id = %fence.lease, %error, "a delivered lease cannot be removed from the outbox");
        }
    }

    /// A lease is not to be rendered any further; what it has so far is still delivered.
    fn revoked(&mut self, revoke: &v1::Revoke) {
        let fence = Fence::from(revoke.fence.unwrap_or_default());
        let Some(lease) = self.held.get(&fence).and_then(|held| held.lease.as_ref()) else { return };
        tracing::info!(
            job.id = %lease.job, task.id = %fence.lease, reason = revoke.reason, "lease revoked"
        );
        lease.diary.note(format_args!("revoked: {}", revoke.reason));
        lease.ask_to_stop(Stop::AtNextStep);
    }

    fn stored(&mut self, fence: Fence, image: StoredImage) {
        let Some(held) = self.held.get_mut(&fence) else { return };
        held.images.push(image.clone());
        held.uploads += 1;
        self.upload(fence, image);
    }

    fn ended(&mut self, fence: Fence, fault: Option<Fault>) {
        let class = fault.as_ref().map(|fault| fault.class);
        let in_trouble = matches!(class, Some(FailureClass::Worker | FailureClass::Environment));
        let device = self.held.get(&fence).and_then(|held| held.device);
        if let Some(slot) = device.and_then(|device| self.slots.get_mut(&device)) {
            slot.rendered(in_trouble, self.worker);
        }
        self.change(fence, |held| {
            held.ended = true;
            held.log = held.lease.take().map_or_else(String::new, |lease| lease.diary.text());
            held.fault = held.fault.take().or(fault);
        });
    }

    fn upload(&mut self, fence: Fence, image: StoredImage) {
        let (uploader, events) = (self.uploader.clone(), self.events.clone());
        self.uploads.spawn(async move {
            let event = uploader.deliver(fence, image).await;
            // A node that is gone needs no telling: the picture lies in the outbox.
            let _ = events.send(event).await;
        });
    }

    /// Changes a lease, and sends its completion where that has become possible.
    fn change(&mut self, fence: Fence, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held.get_mut(&fence) {
            change(held);
        }
        self.offer(fence);
    }

    /// Sends the completion of a lease where that has become possible.
    fn offer(&mut self, fence: Fence) {
        let Some(held) = self.held.get_mut(&fence) else { return };
        if held.is_ready() && !held.offered && self.talk.is_welcome() {
            held.offered = true;
            self.talk.say(v1::session_request::Message::Complete(held.completion(fence)));
        }
    }

    fn fences(&self) -> Vec<v1::Fence> {
        self.held.keys().map(|&fence| fence.into()).collect()
    }
}

/// A node that is dropped in the middle leaves no device rendering for nobody.
impl Drop for Node {
    fn drop(&mut self) {
        self.ask_all_to_stop(Stop::AtNextStep);
    }
}

/// Holds the coordinator's versions of the protocol against this program's.
fn check_protocol(welcome: &v1::Welcome) -> Result<(), WorkerError> {
    let v1::Welcome { protocol: newest, oldest_protocol: oldest, .. } = *welcome;
    if (oldest..=newest).contains(&PROTOCOL) { Ok(()) } else { Err(WorkerError::Protocol { oldest, newest }) }
}
