//! A device's store thread: encodes pictures and puts them into the outbox, while the device renders on.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::{ArtifactDigest, Fingerprint, ModelDigest, Numerics, WorkerId, canonical};
use seedfarm_picture::{Caption, encode};
use tokio::sync::mpsc;

use crate::device::Made;
use crate::event::Event;
use crate::lease::{Lease, Stop};
use crate::outbox::{LeaseNote, Outbox, StoredImage};
use crate::renderer::{Drawn, Fault, chain};

/// Names of models, which come and go.
pub(crate) type Names = Arc<RwLock<HashMap<ModelDigest, String>>>;

/// A device's other thread.
pub(crate) struct StoreThread {
    pub worker: WorkerId,
    /// The device's index.
    pub device: u32,
    pub fingerprints: BTreeMap<Numerics, Fingerprint>,
    /// Names of models, for captions.
    pub models: Names,
    pub outbox: Arc<Outbox>,
    pub events: mpsc::Sender<Event>,
}

impl StoreThread {
    /// Stores until the render thread or the node is gone.
    pub(crate) fn run(self, made: &Receiver<Made>) {
        let mut faults: HashMap<Fence, Fault> = HashMap::new();
        while let Ok(made) = made.recv() {
            if self.events.is_closed() {
                return;
            }
            match made {
                Made::Pictures { lease, pictures, each } => {
                    if let Err(fault) = self.store_all(&lease, pictures, each, &faults) {
                        lease.ask_to_stop(Stop::AtNextStep);
                        faults.insert(lease.fence, fault);
                    }
                }
                Made::Ended { lease, fault, busy } => {
                    let fault = faults.remove(&lease.fence).or(fault);
                    self.end(&lease, fault, busy);
                }
            }
        }
    }

    fn store_all(
        &self,
        lease: &Lease,
        pictures: Vec<(usize, Drawn)>,
        each: Duration,
        faults: &HashMap<Fence, Fault>,
    ) -> Result<(), Fault> {
        if let Some(fault) = faults.get(&lease.fence) {
            return Err(fault.clone());
        }
        pictures.iter().try_for_each(|(position, drawn)| self.store(lease, *position, drawn, each))
    }

    fn store(&self, lease: &Lease, position: usize, drawn: &Drawn, each: Duration) -> Result<(), Fault> {
        let Drawn { picture, warnings } = drawn;
        let recipe = &lease.images[position].recipe;
        let fingerprint = self.fingerprints.get(&recipe.template.numerics);
        let fingerprint = fingerprint.ok_or_else(|| worker_fault("no fingerprint for these numerics"))?;
        let model_name =
            self.models.read().unwrap_or_else(PoisonError::into_inner).get(&lease.model).cloned();
        let model_name = model_name.as_deref().unwrap_or_default();
        let caption = Caption { recipe, model_name, fingerprint, version: env!("CARGO_PKG_VERSION") };
        let file = encode(picture, &caption).map_err(|error| worker_fault(chain(&error)))?;
        let image = StoredImage {
            index: lease.images[position].index,
            recipe: recipe.digest(),
            pixels: picture.digest(),
            artifact: ArtifactDigest::of_bytes(&file),
            bytes: file.len() as u64,
            duration_ms: u64::try_from(each.as_millis()).unwrap_or(u64::MAX),
            warnings: warnings.clone(),
        };
        let note =
            LeaseNote { job: lease.job.to_string(), fingerprint_json: canonical::to_string(fingerprint) };
        self.outbox.keep(&lease.fence, &note, &image, &file).map_err(|error| worker_fault(chain(&error)))?;
        lease.diary.note(format_args!(
            "image {} rendered in {:.3} s: {} bytes, {} warnings",
            image.index,
            each.as_secs_f64(),
            image.bytes,
            image.warnings.len()
        ));
        tracing::debug!(
            job.id = %lease.job, task.id = %lease.fence.lease, recipe.digest = %image.recipe,
            image.index = image.index, duration_ms = image.duration_ms, "image rendered"
        );
        self.tell(Event::Stored(lease.fence, image));
        Ok(())
    }

    fn end(&self, lease: &Lease, fault: Option<Fault>, busy: Duration) {
        if let Err(error) = self.outbox.end(&lease.fence, fault.as_ref()) {
            // What was rendered is kept already; were this process killed now, the next would deliver it
            // as handed back.
            tracing::warn!(task.id = %lease.fence.lease, error = chain(&error), "a lease's end cannot be kept");
        }
        let duration_ms = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
        note_end(lease, fault.as_ref(), busy);
        match &fault {
            Some(fault) if fault.class != FailureClass::HandedBack => tracing::error!(
                job.id = %lease.job, task.id = %lease.fence.lease, attempt = lease.fence.attempt.0,
                worker.id = %self.worker, gpu.index = self.device, duration_ms,
                failure.class = fault.class.as_str(), error = fault.error, "lease failed"
            ),
            _ => tracing::info!(
                job.id = %lease.job, task.id = %lease.fence.lease, attempt = lease.fence.attempt.0,
                worker.id = %self.worker, gpu.index = self.device, duration_ms,
                images = lease.images.len(), handed_back = fault.is_some(), "lease rendered"
            ),
        }
        self.tell(Event::Ended(lease.fence, fault));
    }

    /// A node that is gone needs no telling: what matters lies in the outbox.
    fn tell(&self, event: Event) {
        let _ = self.events.blocking_send(event);
    }
}

fn note_end(lease: &Lease, fault: Option<&Fault>, busy: Duration) {
    let busy = busy.as_secs_f64();
    match fault {
        Some(fault) => {
            let class = fault.class.as_str();
            lease.diary.note(format_args!("ended after {busy:.3} s on the device, {class}: {}", fault.error));
        }
        None => lease.diary.note(format_args!("ended after {busy:.3} s on the device")),
    }
}

fn worker_fault(error: impl Into<String>) -> Fault {
    Fault::new(FailureClass::Worker, error)
}
