mod farm;
mod limits;
mod order;
mod twins;
mod waits;
mod warmth;
mod why;

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;
use crate::digest::{AdapterDigest, ModelDigest};
use crate::id::{JobId, WorkerId};
use crate::range::ImageRange;
use crate::recipe::Numerics;
use crate::terms::{JobTerms, Requirements, TenantName, Urgency};

pub(super) const TARGET_MS: u64 = 20_000;

pub(super) fn job(n: u128) -> JobId {
    JobId::from_uuid(Uuid::from_u128(n))
}

pub(super) fn worker(n: u128) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(n))
}

pub(super) fn device(n: u128) -> DeviceId {
    DeviceId { worker: worker(n), device: 0 }
}

pub(super) fn model(name: &str) -> ModelDigest {
    ModelDigest::of_bytes(name.as_bytes())
}

pub(super) fn adapter(name: &str) -> AdapterDigest {
    AdapterDigest::of_bytes(name.as_bytes())
}

pub(super) fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

pub(super) fn range(lo: u64, hi: u64) -> ImageRange {
    ImageRange::new(lo, hi).unwrap()
}

pub(super) fn class(name: &str) -> Class {
    Class {
        group: Group { model: model(name), numerics: Numerics::Strict },
        model_name: name.to_owned(),
        licence: None,
        adapters: Vec::new(),
        requirements: Requirements::default(),
        demand: Demand::default(),
    }
}

/// A job of model `m` with `total` fresh images.
pub(super) fn queued(id: u128, created_at_ms: i64, total: u64) -> QueuedJob {
    QueuedJob {
        id: job(id),
        class: class("m"),
        weights_bytes: 0,
        terms: JobTerms::default(),
        cancelled: Vec::new(),
        created_at_ms,
        active: true,
        hold: None,
        fresh: ImageRange::new(0, total),
        fresh_avoid: Vec::new(),
        retries: Vec::new(),
    }
}

pub(super) fn of_model(name: &str, job: QueuedJob) -> QueuedJob {
    QueuedJob { class: class(name), ..job }
}

pub(super) fn of_tenant(name: &str, job: QueuedJob) -> QueuedJob {
    QueuedJob { terms: JobTerms { tenant: tenant(name), ..job.terms }, ..job }
}

pub(super) fn interactive(job: QueuedJob) -> QueuedJob {
    QueuedJob { terms: JobTerms { urgency: Urgency::Interactive, ..job.terms }, ..job }
}

pub(super) fn retry(row: i64, lo: u64, hi: u64, avoid: Vec<WorkerId>) -> Retry {
    Retry { row, range: range(lo, hi), spent: 1, not_before_ms: 0, avoid }
}

pub(super) fn offer(models: &[&str]) -> Offer {
    Offer {
        models: models.iter().map(|name| model(name)).collect(),
        numerics: BTreeSet::from([Numerics::Strict]),
        ..Offer::default()
    }
}

/// A queue of these jobs, and workers 1 to `workers`, one device each, with `models`.
pub(super) fn queue(workers: u128, models: &[&str], jobs: impl IntoIterator<Item = QueuedJob>) -> Queue {
    let mut queue = Queue::default();
    (1..=workers).for_each(|n| queue.join(worker(n), [(0, offer(models))]));
    jobs.into_iter().for_each(|job| queue.insert(job));
    queue
}

pub(super) fn next_at(queue: &mut Queue, n: u128, now_ms: i64) -> Option<Pick> {
    queue.choose(device(n), now_ms, TARGET_MS).ok()
}

pub(super) fn next(queue: &mut Queue, n: u128) -> Option<Pick> {
    next_at(queue, n, 0)
}

/// Chooses and takes.
pub(super) fn grant_at(queue: &mut Queue, n: u128, now_ms: i64) -> Option<Pick> {
    let pick = next_at(queue, n, now_ms)?;
    queue.take(&pick);
    Some(pick)
}

/// The lease of a pick ends with all its images, each of which took `ms`.
pub(super) fn end(queue: &mut Queue, pick: &Pick, ms: u64) {
    let images = pick.range.len();
    let timing = Some(Timing { images, total_ms: images * ms, first_ms: ms });
    queue.end(&Ended { job: pick.job, range: pick.range, device: pick.device, timing });
}

/// The lease of a pick ends without an image.
pub(super) fn fail(queue: &mut Queue, pick: &Pick) {
    queue.end(&Ended { job: pick.job, range: pick.range, device: pick.device, timing: None });
}
