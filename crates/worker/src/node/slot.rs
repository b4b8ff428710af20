//! One device as the node sees it: its queue, its threads and the credit that is out for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::{Fingerprint, Numerics, WorkerId, canonical};
use seedfarm_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::RenderDevice;
use super::held::Held;
use super::owner::Wanted;
use crate::backoff::Backoff;
use crate::device::{Order, RenderThread};
use crate::error::WorkerError;
use crate::event::Event;
use crate::lease::{Lease, Stop};
use crate::outbox::Outbox;
use crate::pictures::PictureStore;
use crate::renderer::Fault;
use crate::shelf::Shelf;
use crate::storing::{Names, StoreThread};

/// Leases that a device may have before they are rendered: one in the making, one waiting.
const LEASES_AHEAD: u32 = 2;

/// Batches that may wait for the store thread. The render thread waits when the disk is slower.
const BATCHES_TO_STORE: usize = 4;

/// How long a device that failed for its own reasons, or for want of a model, gets no work.
const REST: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(60) };

/// A device.
pub(super) struct Slot {
    /// What Hello says of it.
    pub description: v1::Device,
    /// Credit that the coordinator has not used yet.
    pub credit: u32,
    /// Leases granted and not rendered.
    pub unrendered: u32,
    fingerprints: BTreeMap<Numerics, String>,
    queue: SyncSender<Order>,
    pictures: Arc<PictureStore>,
    shelf: Option<Arc<Shelf>>,
    threads: Vec<JoinHandle<()>>,
    /// Leases in a row that failed through no fault of their own.
    troubles: u32,
    rest_until: Option<Instant>,
    /// Why the owner lets it render nothing.
    resting: Option<String>,
    /// The same for the device's thread.
    rests: Arc<AtomicBool>,
}

/// What a device's threads share with the node.
pub(super) struct Shared {
    pub worker: WorkerId,
    pub models: Names,
    /// Where models lie; absent for devices that render with something else.
    pub shelf: Option<Arc<Shelf>>,
    pub outbox: Arc<Outbox>,
    pub events: mpsc::Sender<Event>,
    pub previews: bool,
    pub pictures: Arc<PictureStore>,
    pub give_back_memory: fn(),
}

impl Slot {
    /// Starts a device's two threads.
    pub(super) fn start(index: u32, device: RenderDevice, shared: &Shared) -> Result<Self, WorkerError> {
        let description = describe(index, &device);
        let by_numerics = |fingerprint: &Fingerprint| (fingerprint.numerics, fingerprint.clone());
        let fingerprints: BTreeMap<_, _> = device.fingerprints.iter().map(by_numerics).collect();
        let texts = fingerprints.iter().map(|(class, print)| (*class, canonical::to_string(print))).collect();
        let (queue, orders) = sync_channel(LEASES_AHEAD as usize);
        let rests = Arc::new(AtomicBool::new(false));
        let (made, to_store) = sync_channel(BATCHES_TO_STORE);
        let render = RenderThread {
            renderer: device.renderer,
            numerics: fingerprints.keys().copied().collect(),
            batch: device.batch,
            previews: shared.previews,
            pictures: Arc::clone(&shared.pictures),
            made,
            events: shared.events.clone(),
            resting: Arc::clone(&rests),
            give_back_memory: shared.give_back_memory,
        };
        let store = StoreThread {
            worker: shared.worker,
            device: index,
            fingerprints,
            models: Arc::clone(&shared.models),
            outbox: Arc::clone(&shared.outbox),
            events: shared.events.clone(),
        };
        let failed = |source: io::Error| WorkerError::Thread { device: index, source };
        let threads = vec![
            spawn(format!("device-{index}"), move || render.run(&orders)).map_err(failed)?,
            spawn(format!("store-{index}"), move || store.run(&to_store)).map_err(failed)?,
        ];
        Ok(Self {
            description,
            credit: 0,
            unrendered: 0,
            fingerprints: texts,
            queue,
            pictures: Arc::clone(&shared.pictures),
            shelf: shared.shelf.clone(),
            threads,
            troubles: 0,
            rest_until: None,
            resting: None,
            rests,
        })
    }

    /// Hands a granted lease to the render thread. One that cannot be read, that the owner does not want
    /// rendered, or that comes without credit while the queue is full, is over at once.
    pub(super) fn take_on(&mut self, grant: v1::Grant, leaving: bool, wanted: &Wanted) -> (Fence, Held) {
        self.credit = self.credit.saturating_sub(1);
        let device = grant.device;
        let mut lease = match Lease::read(grant) {
            Ok(lease) => lease,
            Err(bad) => return (bad.fence, Held::over(bad.job, bad.fault, self.fingerprint_json(None))),
        };
        note_taken(&lease, &self.description);
        let print = self.fingerprint_json(Some(&lease));
        if let Err(fault) = self.admit(&mut lease, wanted) {
            return (lease.fence, Held::over(lease.job.to_string(), fault, print));
        }
        let lease = Arc::new(lease);
        if leaving {
            lease.ask_to_stop(Stop::AfterBatch);
        }
        if self.queue.try_send(Order::Render(Arc::clone(&lease))).is_err() {
            let fault =
                Fault::new(FailureClass::HandedBack, "the device holds as many leases as it can take");
            return (lease.fence, Held::over(lease.job.to_string(), fault, print));
        }
        self.pictures.prefetch(&lease);
        self.unrendered += 1;
        (lease.fence, Held::granted(lease, device, print))
    }

    /// Why a lease is not rendered here: the device rests, the owner does not want it, or what it needs has
    /// left the disk.
    fn admit(&mut self, lease: &mut Lease, wanted: &Wanted) -> Result<(), Fault> {
        if let Some(reason) = self.resting.clone().or_else(|| self.unwanted(lease, wanted)) {
            return Err(Fault::new(FailureClass::HandedBack, reason));
        }
        self.take_hold(lease)
    }

    /// Keeps what a lease renders with on the disk. A model may leave while its grant is on the way.
    fn take_hold(&self, lease: &mut Lease) -> Result<(), Fault> {
        let Some(shelf) = &self.shelf else { return Ok(()) };
        let gone =
            |gone| Fault::new(FailureClass::Environment, format!("{gone} is not on this disk any more"));
        lease.holds = shelf.hold(&lease.model, &lease.adapters()).map_err(gone)?;
        Ok(())
    }

    /// Why the owner does not want a lease rendered. A device that was given one rests for a while, longer
    /// each time in a row, so that it is not handed to and fro.
    fn unwanted(&mut self, lease: &Lease, wanted: &Wanted) -> Option<String> {
        let reason = wanted.refuses(lease)?;
        self.trouble(wanted.worker);
        Some(reason)
    }

    fn trouble(&mut self, worker: WorkerId) {
        self.rest_until = Some(Instant::now() + REST.delay(self.troubles, worker));
        self.troubles = self.troubles.saturating_add(1);
    }

    /// Lets the device rest, with nothing loaded, or work again. Credit that is out is void once it rests.
    pub(super) fn rest(&mut self, reason: Option<&str>) {
        self.resting = reason.map(str::to_owned);
        self.rests.store(reason.is_some(), Ordering::Relaxed);
        if reason.is_some() {
            self.credit = 0;
            // A queue without room holds leases, after each of which the thread looks whether it rests.
            let _ = self.queue.try_send(Order::Free);
        }
    }

    /// Why the owner lets the device render nothing.
    pub(super) fn resting(&self) -> Option<&str> {
        self.resting.as_deref()
    }

    /// How the device renders `lease`, as JSON; where it does not, how it renders at all.
    fn fingerprint_json(&self, lease: Option<&Lease>) -> String {
        let numerics = lease.and_then(|lease| lease.images.first()).map(|i| i.recipe.template.numerics);
        let exact = numerics.and_then(|numerics| self.fingerprints.get(&numerics));
        exact.or_else(|| self.fingerprints.values().next()).cloned().unwrap_or_default()
    }

    /// A lease was rendered. One that failed through the device or its surroundings earns it a rest,
    /// longer each time in a row.
    pub(super) fn rendered(&mut self, in_trouble: bool, worker: WorkerId) {
        self.unrendered = self.unrendered.saturating_sub(1);
        if in_trouble {
            self.trouble(worker);
        } else {
            (self.rest_until, self.troubles) = (None, 0);
        }
    }

    /// When the device may work again, if it rests.
    pub(super) const fn rests_until(&self) -> Option<Instant> {
        self.rest_until
    }

    /// Leases that the device could take now.
    pub(super) fn appetite(&mut self, now: Instant) -> u32 {
        if self.resting.is_some() {
            return 0;
        }
        match self.rest_until {
            Some(until) if now < until => return 0,
            _ => self.rest_until = None,
        }
        LEASES_AHEAD.saturating_sub(self.credit + self.unrendered)
    }

    /// Lets the threads end when they have rendered and stored what they hold.
    pub(super) fn close(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

fn note_taken(lease: &Lease, device: &v1::Device) {
    let images = lease.images.len();
    let first = lease.images.first().map_or(0, |image| image.index);
    lease.diary.note(format_args!(
        "lease {} taken: {images} images from {first}, attempt {}, model {}, device {} ({}), version {}",
        lease.fence.lease,
        lease.fence.attempt,
        lease.model,
        device.index,
        device.name,
        env!("CARGO_PKG_VERSION")
    ));
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(run)
}

fn describe(index: u32, device: &RenderDevice) -> v1::Device {
    v1::Device {
        index,
        name: device.name.clone(),
        backend: device.backend.clone(),
        memory_bytes: device.memory_bytes,
        fingerprints_json: device.fingerprints.iter().map(canonical::to_string).collect(),
    }
}
