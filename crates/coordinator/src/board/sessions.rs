//! Workers that are connected: their streams, their credit, what they offer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seedfarm_core::completion::Fence;
use seedfarm_core::owner::Acceptance;
use seedfarm_core::placement::{Class, DeviceId, Offer};
use seedfarm_core::{
    AdapterDigest, AdapterManifest, Fingerprint, ModelDigest, ModelManifest, Numerics, WorkerId,
};
use seedfarm_proto::v1::{self, session_response::Message};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Board;
use super::stock::Stock;

/// Most leases that a device may ask for ahead.
const MAX_CREDIT: u32 = 64;

/// One stream of one worker; the number tells a reconnected worker's streams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId(u64);

/// Messages on their way to a worker.
pub(crate) type Outbox = mpsc::Sender<Result<v1::SessionResponse, Status>>;

/// One device as its worker describes it.
#[derive(Debug, Clone)]
pub(crate) struct DeviceIntroduction {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) backend: String,
    /// 0 where the worker does not know.
    pub(crate) memory_bytes: u64,
    pub(crate) fingerprints: Vec<Fingerprint>,
}

/// Who a worker says it is, checked.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) worker: WorkerId,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) devices: Vec<DeviceIntroduction>,
    /// Which work its owner lets it take.
    pub(crate) acceptance: Acceptance,
    pub(crate) manifests: Vec<ModelManifest>,
    pub(crate) adapters: Vec<AdapterManifest>,
    pub(crate) held: Vec<Fence>,
    /// Of the worker's process, made at its start.
    pub(crate) instance: String,
    /// Bytes that models fetched from the farm may take; 0 where it fetches none.
    pub(crate) fetches_bytes: u64,
}

impl Introduction {
    fn models(&self) -> BTreeSet<ModelDigest> {
        self.manifests.iter().map(ModelManifest::digest).collect()
    }

    fn adapter_digests(&self) -> BTreeSet<AdapterDigest> {
        self.adapters.iter().map(|adapter| adapter.digest).collect()
    }
}

/// One device of a session.
#[derive(Debug)]
pub(super) struct SeatedDevice {
    name: String,
    backend: String,
    numerics: BTreeSet<Numerics>,
    memory_bytes: u64,
}

impl SeatedDevice {
    fn of(device: &DeviceIntroduction) -> Self {
        Self {
            name: device.name.clone(),
            backend: device.backend.clone(),
            numerics: device.fingerprints.iter().map(|fingerprint| fingerprint.numerics).collect(),
            memory_bytes: device.memory_bytes,
        }
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    instance: String,
    /// When the worker last said that it lives.
    pub(super) heard: Instant,
    outbox: Outbox,
    /// Stops the task that reads the stream.
    stop: CancellationToken,
    pub(super) devices: BTreeMap<u32, SeatedDevice>,
    pub(super) models: BTreeSet<ModelDigest>,
    pub(super) adapters: BTreeSet<AdapterDigest>,
    pub(super) stock: Stock,
    /// Which work its owner lets it take.
    pub(super) acceptance: Acceptance,
    /// Why devices rest, by index.
    pub(super) resting: BTreeMap<u32, String>,
    pub(super) draining: bool,
    pub(super) credit: BTreeMap<u32, u32>,
}

impl Session {
    /// Index, name and credit of each device.
    pub(super) fn devices(&self) -> impl Iterator<Item = (u32, &str, u32)> {
        let credit = |device: &u32| self.credit.get(device).copied().unwrap_or(0);
        self.devices.iter().map(move |(index, device)| (*index, device.name.as_str(), credit(index)))
    }

    /// Classes of arithmetic that a device of it offers.
    pub(super) fn numerics(&self) -> BTreeSet<Numerics> {
        self.devices.values().flat_map(|device| &device.numerics).copied().collect()
    }

    /// Whether none of its devices would take work of `class`, whatever it had to render with.
    pub(super) fn refuses(&self, class: &Class) -> bool {
        self.devices.values().all(|device| class.lacks_leave(&self.acceptance, device.memory_bytes).is_some())
    }

    /// What each device offers to placement: all that the worker has, in each arithmetic of the device, as far as
    /// its owner lets it in.
    fn offers(&self) -> Vec<(u32, Offer)> {
        let offer = |device: &SeatedDevice| Offer {
            models: self.models.clone(),
            numerics: device.numerics.clone(),
            adapters: self.adapters.clone(),
            memory_bytes: device.memory_bytes,
            acceptance: self.acceptance.clone(),
        };
        self.devices.iter().map(|(&index, device)| (index, offer(device))).collect()
    }
}

/// A connected worker as its operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct WorkerView {
    pub(crate) draining: bool,
    pub(crate) devices: Vec<v1::WorkerDevice>,
    /// Words that it bears.
    pub(crate) tags: Vec<String>,
}

impl Board {
    /// Whether another process with the same identity is connected and was heard of within `patience`. One
    /// that comes back itself is no rival.
    pub(crate) fn has_rival(&self, who: &Introduction, patience: Duration, now: Instant) -> bool {
        let session = self.sessions.get(&who.worker);
        session.is_some_and(|session| {
            session.instance != who.instance && now.saturating_duration_since(session.heard) < patience
        })
    }

    /// A worker said Hello. An earlier stream of the same worker ends. Answers the session and the
    /// fences that the worker holds in vain.
    pub(crate) fn connect(
        &mut self,
        who: &Introduction,
        outbox: Outbox,
        stop: CancellationToken,
        now: Instant,
    ) -> (SessionId, Vec<Fence>) {
        self.end_session(who.worker);
        self.last_session += 1;
        let id = SessionId(self.last_session);
        let devices = who.devices.iter();
        let session = Session {
            id,
            instance: who.instance.clone(),
            heard: now,
            outbox,
            stop,
            devices: devices.map(|device| (device.index, SeatedDevice::of(device))).collect(),
            models: who.models(),
            adapters: who.adapter_digests(),
            stock: Stock::of(who),
            acceptance: who.acceptance.clone(),
            resting: BTreeMap::new(),
            draining: false,
            credit: BTreeMap::new(),
        };
        self.sessions.insert(who.worker, session);
        self.offer(who.worker);
        (id, self.renew(who.worker, &who.held, now))
    }

    /// Tells placement what a worker offers, after that has changed. One that drains offers nothing.
    pub(super) fn offer(&mut self, worker: WorkerId) {
        if let Some(session) = self.sessions.get(&worker).filter(|session| !session.draining) {
            self.queue.join(worker, session.offers());
        }
    }

    /// A stream ended. The worker's leases stay until they expire: it may come back with them.
    pub(crate) fn disconnect(&mut self, worker: WorkerId, id: SessionId) {
        if self.sessions.get(&worker).is_some_and(|session| session.id == id) {
            self.end_session(worker);
        }
    }

    pub(super) fn end_session(&mut self, worker: WorkerId) {
        if let Some(session) = self.sessions.remove(&worker) {
            session.stop.cancel();
            session.credit.keys().for_each(|&device| self.set_hungry(DeviceId { worker, device }, false));
        }
        self.queue.leave(worker);
    }

    /// A worker can take `leases` more for one of its devices. Unknown devices get nothing.
    pub(crate) fn credit(&mut self, worker: WorkerId, id: SessionId, device: u32, leases: u32) {
        let Some(session) = self.sessions.get_mut(&worker).filter(|session| session.id == id) else { return };
        if leases == 0 || !session.devices.contains_key(&device) {
            return;
        }
        let credit = session.credit.entry(device).or_default();
        *credit = credit.saturating_add(leases).min(MAX_CREDIT);
        self.set_hungry(DeviceId { worker, device }, true);
    }

    /// A worker takes no more work.
    pub(crate) fn stop_worker(&mut self, worker: WorkerId) {
        self.queue.stop(worker);
        let Some(session) = self.sessions.get_mut(&worker) else { return };
        session.draining = true;
        let devices: Vec<u32> = std::mem::take(&mut session.credit).into_keys().collect();
        devices.into_iter().for_each(|device| self.set_hungry(DeviceId { worker, device }, false));
    }

    /// Asks a worker to finish what it holds and leave; false when it is not connected.
    pub(crate) fn drain(&mut self, worker: WorkerId) -> bool {
        let connected = self.sessions.contains_key(&worker);
        if connected {
            self.stop_worker(worker);
            self.send(worker, Message::Drain(v1::Drain {}));
        }
        connected
    }

    /// Queues a message. A worker that is not connected does not get it; one whose queue is full loses
    /// its session.
    pub(crate) fn send(&mut self, worker: WorkerId, message: Message) -> bool {
        let Some(session) = self.sessions.get(&worker) else { return false };
        let sent = session.outbox.try_send(Ok(v1::SessionResponse { message: Some(message) })).is_ok();
        if !sent {
            tracing::warn!(worker.id = %worker, "the worker does not read its messages; ending its session");
            self.end_session(worker);
        }
        sent
    }

    /// The connected workers.
    pub(crate) fn workers(&self) -> impl Iterator<Item = (WorkerId, WorkerView)> + '_ {
        self.sessions.iter().map(|(&worker, session)| (worker, self.view(worker, session)))
    }

    /// Ids of the connected workers.
    pub(crate) fn connected(&self) -> Vec<WorkerId> {
        self.sessions.keys().copied().collect()
    }

    /// Connected workers that have a model.
    pub(crate) fn workers_with(&self, model: ModelDigest) -> usize {
        self.sessions.values().filter(|session| session.models.contains(&model)).count()
    }

    /// Connected workers that have an adapter.
    pub(crate) fn workers_with_adapter(&self, adapter: AdapterDigest) -> usize {
        self.sessions.values().filter(|session| session.adapters.contains(&adapter)).count()
    }

    fn view(&self, worker: WorkerId, session: &Session) -> WorkerView {
        let devices = session.devices.iter().map(|(&index, device)| v1::WorkerDevice {
            index,
            name: device.name.clone(),
            backend: device.backend.clone(),
            leases: u32::try_from(self.load_of(DeviceId { worker, device: index })).unwrap_or(u32::MAX),
            resting: session.resting.get(&index).cloned(),
        });
        let tags = session.acceptance.tags.iter().map(ToString::to_string).collect();
        WorkerView { draining: session.draining, devices: devices.collect(), tags }
    }

    pub(super) fn load_of(&self, device: DeviceId) -> usize {
        self.load.get(&device).copied().unwrap_or(0)
    }

    /// Puts a device among those with credit, or takes it out.
    pub(super) fn set_hungry(&mut self, device: DeviceId, hungry: bool) {
        let asking = (self.load_of(device), device);
        if hungry {
            self.hunger.ask(asking);
        } else {
            self.hunger.rest(asking);
        }
    }

    /// Changes how much a device holds, keeping its place among those with credit.
    pub(super) fn set_load(&mut self, device: DeviceId, load: usize) {
        self.hunger.moved((self.load_of(device), device), load);
        if load == 0 {
            self.load.remove(&device);
        } else {
            self.load.insert(device, load);
        }
    }
}
