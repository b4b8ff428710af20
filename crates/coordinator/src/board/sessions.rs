//! Workers that are connected: their streams, their credit, what they offer.

use std::collections::{BTreeMap, BTreeSet};

use seedfarm_core::completion::Fence;
use seedfarm_core::placement::{DeviceId, Group};
use seedfarm_core::{AdapterDigest, AdapterManifest, Fingerprint, ModelDigest, ModelManifest, WorkerId};
use seedfarm_proto::v1::{self, session_response::Message};
use seedfarm_store::JobRow;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Board;

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
    pub(crate) fingerprints: Vec<Fingerprint>,
}

/// Who a worker says it is, checked.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) worker: WorkerId,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) devices: Vec<DeviceIntroduction>,
    pub(crate) manifests: Vec<ModelManifest>,
    pub(crate) adapters: Vec<AdapterManifest>,
    pub(crate) held: Vec<Fence>,
}

impl Introduction {
    fn models(&self) -> BTreeSet<ModelDigest> {
        self.manifests.iter().map(ModelManifest::digest).collect()
    }

    fn adapter_digests(&self) -> BTreeSet<AdapterDigest> {
        self.adapters.iter().map(|adapter| adapter.digest).collect()
    }

    /// What each device offers: every model of the worker in each class of arithmetic of the device.
    fn offers(&self) -> Vec<(u32, BTreeSet<Group>)> {
        let models = self.models();
        let groups = |device: &DeviceIntroduction| {
            let classes = device.fingerprints.iter().map(|fingerprint| fingerprint.numerics);
            let pairs = classes.flat_map(|numerics| models.iter().map(move |&model| (model, numerics)));
            pairs.map(|(model, numerics)| Group { model, numerics }).collect()
        };
        self.devices.iter().map(|device| (device.index, groups(device))).collect()
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    outbox: Outbox,
    /// Stops the task that reads the stream.
    stop: CancellationToken,
    devices: BTreeMap<u32, (String, String)>,
    models: BTreeSet<ModelDigest>,
    adapters: BTreeSet<AdapterDigest>,
    draining: bool,
    pub(super) credit: BTreeMap<u32, u32>,
}

/// A connected worker as its operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct WorkerView {
    pub(crate) draining: bool,
    pub(crate) devices: Vec<v1::WorkerDevice>,
}

impl Board {
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
            outbox,
            stop,
            devices: devices.map(|d| (d.index, (d.name.clone(), d.backend.clone()))).collect(),
            models: who.models(),
            adapters: who.adapter_digests(),
            draining: false,
            credit: BTreeMap::new(),
        };
        self.sessions.insert(who.worker, session);
        self.fleet.join(who.worker, who.offers(), who.adapter_digests());
        (id, self.renew(who.worker, &who.held, now))
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
        self.fleet.leave(worker);
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
        self.fleet.stop(worker);
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

    /// What keeps every connected worker from rendering a job, if anything does.
    pub(crate) fn wants(&self, job: &JobRow) -> Option<String> {
        let group = Group { model: job.model_digest, numerics: job.numerics };
        if self.fleet.offers(group, &job.needs) > 0 {
            return None;
        }
        let (model, class) = (&job.model_name, job.numerics.as_str());
        let waits = "the job waits until one connects";
        Some(match self.fleet.offers(group, &[]) {
            0 => format!("no connected worker has the model '{model}' in {class} numerics: {waits}"),
            lacking => format!(
                "of {lacking} connected workers with the model '{model}' in {class} numerics, none has all {} \
                 adapters that the job needs: {waits} that has",
                job.needs.len()
            ),
        })
    }

    fn view(&self, worker: WorkerId, session: &Session) -> WorkerView {
        let devices = session.devices.iter().map(|(&device, (name, backend))| v1::WorkerDevice {
            index: device,
            name: name.clone(),
            backend: backend.clone(),
            leases: u32::try_from(self.load_of(DeviceId { worker, device })).unwrap_or(u32::MAX),
        });
        WorkerView { draining: session.draining, devices: devices.collect() }
    }

    pub(super) fn load_of(&self, device: DeviceId) -> usize {
        self.load.get(&device).copied().unwrap_or(0)
    }

    /// Puts a device among those with credit, or takes it out.
    pub(super) fn set_hungry(&mut self, device: DeviceId, hungry: bool) {
        let entry = (self.load_of(device), device);
        if hungry {
            self.hungry.insert(entry);
        } else {
            self.hungry.remove(&entry);
        }
    }

    /// Changes how much a device holds, keeping its place among those with credit.
    pub(super) fn set_load(&mut self, device: DeviceId, load: usize) {
        let was_hungry = self.hungry.remove(&(self.load_of(device), device));
        if load == 0 {
            self.load.remove(&device);
        } else {
            self.load.insert(device, load);
        }
        if was_hungry {
            self.hungry.insert((load, device));
        }
    }
}
