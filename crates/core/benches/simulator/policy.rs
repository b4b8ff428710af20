//! The two ways of placing: this one, and first come first served.

use std::collections::BTreeMap;

use seedfarm_core::placement::{
    Class, Demand, DeviceId, Ended, Group, Offer, Pick, Queue, QueuedJob, Timing,
};
use seedfarm_core::terms::{JobTerms, Requirements, TenantName, TenantPolicy, Urgency};
use seedfarm_core::{ImageRange, JobId, ModelDigest, Numerics, WorkerId};
use uuid::Uuid;

use crate::day::{Day, Submission, WEIGHTS};

const TARGET_MS: u64 = 20_000;
/// Most images of a lease.
const MOST: u64 = 256;

/// A lease: whose, and how many images.
#[derive(Clone, Copy)]
pub struct Lease {
    pub job: usize,
    pub images: u64,
}

pub trait Policy {
    fn arrive(&mut self, id: usize, job: Submission);
    /// What a free device renders next, or when to ask again.
    fn next(&mut self, device: usize, now_ms: i64) -> Result<Lease, Option<i64>>;
    /// Its lease is over: the time of all images, and of the first, with what loading took.
    fn end(&mut self, device: usize, total_ms: i64, first_ms: i64);
}

/// The oldest job that the device has the model for, as many images as it renders in the target time.
pub struct FirstCome<'a> {
    day: &'a Day,
    /// Images left, by job; ids are in order of arrival.
    left: BTreeMap<usize, u64>,
}

impl<'a> FirstCome<'a> {
    pub fn new(day: &'a Day) -> Self {
        Self { day, left: BTreeMap::new() }
    }
}

impl Policy for FirstCome<'_> {
    fn arrive(&mut self, id: usize, job: Submission) {
        self.left.insert(id, job.images);
    }

    fn next(&mut self, device: usize, _: i64) -> Result<Lease, Option<i64>> {
        let of = &self.day.devices[device];
        let able = |id: &usize| of.models.contains(&self.day.jobs[*id].model);
        let job = self.left.keys().copied().find(able).ok_or(None)?;
        let image_ms = self.day.models[self.day.jobs[job].model].image_ms * of.factor;
        let left = self.left.get_mut(&job).ok_or(None)?;
        let share = *left / (2 * self.day.devices.len() as u64);
        let images = ((TARGET_MS as f64 / image_ms) as u64).min(share).clamp(1, MOST);
        *left -= images;
        if *left == 0 {
            self.left.remove(&job);
        }
        Ok(Lease { job, images })
    }

    fn end(&mut self, _: usize, _: i64, _: i64) {}
}

/// This placement.
pub struct Placement<'a> {
    day: &'a Day,
    queue: Queue,
    held: Vec<Option<Pick>>,
    /// Images that are not rendered, by job.
    left: Vec<u64>,
}

impl<'a> Placement<'a> {
    pub fn new(day: &'a Day) -> Self {
        let mut queue = Queue::default();
        for (at, of) in day.devices.iter().enumerate() {
            let models = of.models.iter().map(|&model| digest(model)).collect();
            let offer = Offer { models, numerics: [Numerics::Strict].into(), ..Offer::default() };
            queue.join(device(at).worker, [(0, offer)]);
        }
        for (tenant, &weight) in WEIGHTS.iter().enumerate() {
            queue.set_tenant(&name(tenant), TenantPolicy { weight, ..TenantPolicy::default() });
        }
        let held = day.devices.iter().map(|_| None).collect();
        Self { day, queue, held, left: day.jobs.iter().map(|job| job.images).collect() }
    }
}

impl Policy for Placement<'_> {
    fn arrive(&mut self, id: usize, job: Submission) {
        let urgency = if job.interactive { Urgency::Interactive } else { Urgency::Bulk };
        self.queue.insert(QueuedJob {
            id: job_id(id),
            class: Class {
                group: Group { model: digest(job.model), numerics: Numerics::Strict },
                model_name: format!("model-{}", job.model),
                licence: None,
                adapters: Vec::new(),
                requirements: Requirements::default(),
                demand: Demand::default(),
            },
            weights_bytes: self.day.models[job.model].weights_bytes,
            terms: JobTerms { urgency, ..JobTerms::of(name(job.tenant)) },
            cancelled: Vec::new(),
            created_at_ms: job.at_ms,
            active: true,
            hold: None,
            fresh: ImageRange::new(0, job.images),
            fresh_avoid: Vec::new(),
            retries: Vec::new(),
        });
    }

    fn next(&mut self, at: usize, now_ms: i64) -> Result<Lease, Option<i64>> {
        let pick = self.queue.choose(device(at), now_ms, TARGET_MS).map_err(|none| none.due_ms)?;
        self.queue.take(&pick);
        let lease = Lease { job: pick.job.as_uuid().as_u128() as usize - 1, images: pick.range.len() };
        self.held[at] = Some(pick);
        Ok(lease)
    }

    fn end(&mut self, at: usize, total_ms: i64, first_ms: i64) {
        let Some(pick) = self.held[at].take() else { return };
        let images = pick.range.len();
        let timing = Timing { images, total_ms: total_ms.unsigned_abs(), first_ms: first_ms.unsigned_abs() };
        self.queue.end(&Ended {
            job: pick.job,
            range: pick.range,
            device: pick.device,
            timing: Some(timing),
        });
        let id = pick.job.as_uuid().as_u128() as usize - 1;
        self.left[id] = self.left[id].saturating_sub(images);
        if self.left[id] == 0 {
            self.queue.finish(pick.job);
        }
    }
}

fn digest(model: usize) -> ModelDigest {
    ModelDigest::of_bytes(&model.to_le_bytes())
}

fn device(at: usize) -> DeviceId {
    DeviceId { worker: WorkerId::from_uuid(Uuid::from_u128(at as u128 + 1)), device: 0 }
}

fn job_id(id: usize) -> JobId {
    JobId::from_uuid(Uuid::from_u128(id as u128 + 1))
}

fn name(tenant: usize) -> TenantName {
    format!("tenant-{tenant}").parse().expect("a plain name")
}
