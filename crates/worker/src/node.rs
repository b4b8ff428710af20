//! The node: the one place that knows the state of every lease this worker holds.
//!
//! It is told of everything through one queue of [`Event`]s and does nothing that takes long. Devices
//! render, store threads write, uploads send and the link listens, each on its own.

mod held;
mod slot;
mod talk;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::{Fingerprint, ModelManifest, WorkerId, canonical};
use seedfarm_proto::v1;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_runtime::Bearer;
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
use crate::lease::{Lease, Stop};
use crate::link::{Client, Link};
use crate::outbox::{Outbox, StoredImage};
use crate::renderer::{Fault, Renderer};
use crate::upload::Uploader;

/// Rendered leases of one device that may wait for the coordinator before it gets no more.
const MOST_UNSETTLED: usize = 4;

/// Events that may wait. Threads that tell more wait themselves.
const EVENTS: usize = 1024;

/// How long the coordinator gets to close the stream after the worker closed its side.
const FAREWELL: Duration = Duration::from_secs(1);

/// A device, and what it renders with.
pub struct RenderDevice {
    /// For people.
    pub name: String,
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

/// Serves a coordinator with `devices`, which render `models`. Of `config`, what is about finding models
/// and devices is not looked at.
///
/// # Errors
/// As [`crate::run`].
pub async fn serve(
    config: WorkerConfig,
    models: Vec<ModelManifest>,
    devices: Vec<RenderDevice>,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    let home = Home::open(&config.data_dir)?;
    let outbox = Outbox::open(home.outbox(), config.outbox_limit_bytes).map_err(at(&home.outbox()))?;
    let (events, told) = mpsc::channel(EVENTS);
    let mut node = Node::start(&config, &home, &models, devices, Arc::new(outbox), events)?;
    node.take_up_leftovers().map_err(at(&home.outbox()))?;
    let link = tokio::spawn(node.link().keep_up());
    let end = node.live(told, shutdown).await;
    node.leave(link).await;
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
    hello: v1::Hello,
    client: Client,
    config: WorkerConfig,
    outbox: Arc<Outbox>,
    uploader: Uploader,
    uploads: JoinSet<()>,
    events: mpsc::Sender<Event>,
    welcomes: watch::Sender<u64>,
    slots: BTreeMap<u32, Slot>,
    held: HashMap<Fence, Held>,
    talk: Talk,
    leaving: Option<Leaving>,
}

impl Node {
    fn start(
        config: &WorkerConfig,
        home: &Home,
        models: &[ModelManifest],
        devices: Vec<RenderDevice>,
        outbox: Arc<Outbox>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, WorkerError> {
        let bearer = Bearer::new(&config.token).map_err(WorkerError::Token)?;
        let channel = config.coordinator.connect_lazy();
        let client = WorkerServiceClient::with_interceptor(channel, bearer)
            .max_decoding_message_size(seedfarm_proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(seedfarm_proto::MAX_MESSAGE_BYTES);
        let names = models.iter().map(|model| (model.digest(), model.name.clone())).collect();
        let shared = Shared {
            worker: home.id(),
            models: Arc::new(names),
            outbox: Arc::clone(&outbox),
            events: events.clone(),
            previews: config.previews,
        };
        let start = |(index, device)| Ok((index, Slot::start(index, device, &shared)?));
        let slots: BTreeMap<u32, Slot> = (0..).zip(devices).map(start).collect::<Result<_, _>>()?;
        let (welcomes, welcomed) = watch::channel(0);
        let uploader =
            Uploader::new(client.clone(), Arc::clone(&outbox), home.id(), config.backoff, welcomed);
        Ok(Self {
            worker: home.id(),
            hello: hello(home.id(), &config.name, models, &slots),
            client,
            config: config.clone(),
            outbox,
            uploader,
            uploads: JoinSet::new(),
            events,
            welcomes,
            slots,
            held: HashMap::new(),
            talk: Talk::default(),
            leaving: None,
        })
    }

    fn link(&self) -> Link {
        Link {
            client: self.client.clone(),
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
            Event::Heard(message) => self.hear(message),
            Event::Closed => self.talk.close(),
            Event::Refused(status) => {
                let message = status.message().to_owned();
                return Err(WorkerError::Refused { message, source: status });
            }
            Event::Progress(progress) => self.talk.murmur(v1::session_request::Message::Progress(progress)),
            Event::Stored(fence, image) => self.stored(fence, image),
            Event::Ended(fence, fault) => self.ended(fence, fault),
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

    fn hear(&mut self, message: v1::session_response::Message) {
        use v1::session_response::Message;
        match message {
            Message::Welcome(welcome) => self.welcomed(&welcome),
            Message::Grant(grant) => self.granted(grant),
            Message::Settled(settled) => self.settled(&settled),
            Message::Revoke(revoke) => self.revoked(&revoke),
            Message::Drain(v1::Drain {}) => self.begin_to_leave(Leaving::Drained),
        }
    }

    /// A stream is being opened: says who this is and what it holds.
    fn introduce(&mut self, outbound: mpsc::Sender<v1::SessionRequest>, close: CancellationToken) {
        self.talk.open(outbound, close);
        let hello = v1::Hello { held: self.fences(), ..self.hello.clone() };
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
        let mut fences: Vec<Fence> = self.held.keys().copied().collect();
        fences.sort_unstable_by_key(|fence| fence.lease);
        for fence in fences {
            self.change(fence, |held| held.offered = false);
        }
    }

    fn granted(&mut self, grant: v1::Grant) {
        let device = grant.device;
        let slot = self.slots.get_mut(&device);
        let read = Lease::read(grant);
        let (fence, held) = match (read, slot) {
            (Ok(lease), Some(slot)) => {
                slot.credit = slot.credit.saturating_sub(1);
                let lease = Arc::new(lease);
                let print = slot.fingerprint_json(Some(&lease));
                let mut held = Held::granted(Arc::clone(&lease), device, print);
                if slot.accept(Arc::clone(&lease)).is_err() {
                    held.ended = true;
                    held.fault = Some(Fault::new(FailureClass::HandedBack, "the device has no room for it"));
                }
                if self.leaving.is_some() {
                    lease.ask_to_stop(Stop::AfterBatch);
                }
                (lease.fence, held)
            }
            (Ok(lease), None) => {
                let error = format!("this worker has no device {device}");
                let fault = Fault::new(FailureClass::Worker, error);
                let bad = crate::lease::BadGrant { fence: lease.fence, job: lease.job.to_string(), fault };
                (bad.fence, Held::refused(bad, String::new()))
            }
            (Err(bad), slot) => {
                let print = slot.map(|slot| {
                    slot.credit = slot.credit.saturating_sub(1);
                    slot.fingerprint_json(None)
                });
                (bad.fence, Held::refused(bad, print.unwrap_or_default()))
            }
        };
        self.held.insert(fence, held);
        self.change(fence, |_| {});
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
            held.lease = None;
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
        let Some(held) = self.held.get_mut(&fence) else { return };
        change(held);
        if held.is_ready() && !held.offered && self.talk.is_welcome() {
            held.offered = true;
            self.talk.say(v1::session_request::Message::Complete(held.completion(fence)));
        }
    }

    fn fences(&self) -> Vec<v1::Fence> {
        self.held.keys().map(|&fence| fence.into()).collect()
    }
}

/// Time: heartbeats, credit, and the way out.
impl Node {
    fn begin_to_stop(&mut self) {
        let now = Instant::now();
        let deadline = self.config.shutdown_deadline;
        tracing::info!(worker.id = %self.worker, held = self.held.len(), "stopping: finishing images in the making");
        self.ask_all_to_stop(Stop::AfterBatch);
        self.begin_to_leave(Leaving::Stopped { give_up: now + deadline * 2 / 3, leave: now + deadline });
    }

    fn begin_to_leave(&mut self, leaving: Leaving) {
        if self.leaving.is_none() {
            tracing::info!(worker.id = %self.worker, held = self.held.len(), "taking no more work");
            self.talk.say(v1::session_request::Message::Drain(v1::Drain {}));
        }
        if !matches!(self.leaving, Some(Leaving::Stopped { .. })) {
            self.leaving = Some(leaving);
        }
    }

    fn ask_all_to_stop(&self, stop: Stop) {
        let leases = self.held.values().filter_map(|held| held.lease.as_ref());
        leases.for_each(|lease| lease.ask_to_stop(stop));
    }

    /// Whether nothing is left to do, or nothing more can be done.
    fn may_leave(&self) -> bool {
        let Some(leaving) = self.leaving else { return false };
        if self.held.is_empty() {
            return true;
        }
        let Leaving::Stopped { leave, .. } = leaving else { return false };
        let rendered = self.held.values().all(|held| held.ended);
        let late = Instant::now() >= leave;
        if late || (rendered && !self.talk.is_welcome()) {
            tracing::warn!(
                worker.id = %self.worker, held = self.held.len(),
                "leaving with leases that are not settled; finished pictures stay in the outbox for the next start"
            );
            return true;
        }
        false
    }

    fn next_wake(&self) -> Option<Instant> {
        let out = match self.leaving {
            Some(Leaving::Stopped { give_up, leave }) => {
                Some(if Instant::now() < give_up { give_up } else { leave })
            }
            _ => None,
        };
        let rests = self.slots.values().filter_map(Slot::rests_until);
        rests.chain(out).chain(self.talk.next_heartbeat()).min()
    }

    fn on_time(&mut self, now: Instant) {
        if let Some(Leaving::Stopped { give_up, .. }) = self.leaving
            && now >= give_up
        {
            self.ask_all_to_stop(Stop::AtNextStep);
        }
        if self.talk.is_heartbeat_due(now) {
            let held = self.fences();
            self.talk.say(v1::session_request::Message::Heartbeat(v1::Heartbeat { held }));
        }
        if self.leaving.is_none() && self.talk.is_welcome() {
            self.give_credit(now);
        }
    }

    /// Asks for as many leases as the devices can take. A device whose finished leases wait for the
    /// coordinator gets no more until they are settled.
    fn give_credit(&mut self, now: Instant) {
        for (&device, slot) in &mut self.slots {
            let of_device = |held: &&Held| held.device == Some(device) && held.ended;
            let leases = slot.appetite(now);
            if leases > 0 && self.held.values().filter(of_device).count() < MOST_UNSETTLED {
                slot.credit += leases;
                self.talk.say(v1::session_request::Message::Credit(v1::Credit { device, leases }));
            }
        }
    }

    /// Closes the stream and lets the threads end.
    async fn leave(mut self, link: tokio::task::JoinHandle<()>) {
        self.uploads.abort_all();
        self.talk.hang_up();
        let abort = link.abort_handle();
        if tokio::time::timeout(FAREWELL, link).await.is_err() {
            abort.abort();
        }
        let idle = self.slots.values().all(|slot| slot.unrendered == 0);
        let slots = std::mem::take(&mut self.slots);
        let threads: Vec<_> = slots.into_values().flat_map(Slot::close).collect();
        if idle {
            // They have nothing left to do, so this is quick; a panic of theirs was told of already.
            let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| drop(t.join())));
            let _ = joined.await;
        }
    }
}

/// A node that is dropped in the middle leaves no device rendering for nobody.
impl Drop for Node {
    fn drop(&mut self) {
        self.ask_all_to_stop(Stop::AtNextStep);
    }
}

fn hello(worker: WorkerId, name: &str, models: &[ModelManifest], slots: &BTreeMap<u32, Slot>) -> v1::Hello {
    v1::Hello {
        worker_id: worker.to_string(),
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        devices: slots.values().map(|slot| slot.description.clone()).collect(),
        model_manifests_json: models.iter().map(canonical::to_string).collect(),
        held: Vec::new(),
    }
}
