//! The one place that names core's placement.

use seedfarm_core::placement::{
    Class, Demand, DeviceId, Ended, Group, Offer, Pick, Queue, QueuedJob, Retry, Source, Timing,
};
use seedfarm_core::terms::Requirements;
use seedfarm_core::{ImageRange, JobId, JobTerms, ModelDigest, Numerics, WorkerId};

/// Milliseconds that a lease should take.
const TARGET_MS: u64 = 400;
/// Milliseconds that an image is said to take.
const IMAGE_MS: u64 = 40;

/// What waits and who is there.
#[derive(Debug, Default)]
pub struct Placement {
    queue: Queue,
}

fn model() -> ModelDigest {
    ModelDigest::of_bytes(b"model")
}

fn device(worker: WorkerId) -> DeviceId {
    DeviceId { worker, device: 0 }
}

impl Placement {
    /// A job with what was never leased and what is to be leased again.
    pub fn add(&mut self, id: JobId, number: i64, fresh: Option<ImageRange>, retries: Vec<Retry>) {
        self.queue.insert(QueuedJob {
            id,
            class: Class {
                group: Group { model: model(), numerics: Numerics::Strict },
                model_name: "model".to_owned(),
                licence: None,
                adapters: Vec::new(),
                requirements: Requirements::default(),
                demand: Demand::default(),
            },
            weights_bytes: 0,
            terms: JobTerms::default(),
            cancelled: Vec::new(),
            created_at_ms: number,
            active: true,
            hold: None,
            fresh,
            fresh_avoid: Vec::new(),
            retries,
        });
    }

    /// A job is over.
    pub fn remove(&mut self, job: JobId) {
        self.queue.finish(job);
    }

    /// A worker is there.
    pub fn join(&mut self, worker: WorkerId) {
        let offer =
            Offer { models: [model()].into(), numerics: [Numerics::Strict].into(), ..Offer::default() };
        self.queue.join(worker, [(0, offer)]);
    }

    /// Chooses for a worker and takes what was chosen. Second leases of one range are left out: this world's store
    /// knows none, and crates/store/src/tests/twins.rs has them on the real one.
    pub fn take(&mut self, worker: WorkerId, now_ms: u64) -> Option<Pick> {
        let pick = self.queue.choose(device(worker), now_ms.cast_signed(), TARGET_MS).ok()?;
        if pick.source == Source::Twin {
            return None;
        }
        self.queue.take(&pick);
        Some(pick)
    }

    /// Puts back what was taken last.
    pub fn put_back(&mut self, pick: &Pick) {
        self.queue.put_back(pick);
    }

    /// A range is to be leased again.
    pub fn give_back(&mut self, job: JobId, retry: Retry) {
        self.queue.give_back(job, retry);
    }

    /// A lease that was taken here is over, with this many images.
    pub fn ended(&mut self, worker: WorkerId, job: JobId, range: ImageRange, images: u64) {
        let timing =
            (images > 0).then_some(Timing { images, total_ms: IMAGE_MS * images, first_ms: IMAGE_MS });
        self.queue.end(&Ended { job, range, device: device(worker), timing });
    }
}
