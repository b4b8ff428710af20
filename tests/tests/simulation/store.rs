//! The store: what PostgreSQL's transactions do, one at a time, in memory; and what must hold after each.

use std::collections::{BTreeMap, BTreeSet};

use seedfarm_core::completion::{FailureClass, Fence, Outcome as Rendered, Reception, receive, settle};
use seedfarm_core::placement::{Pick, Retry, Source};
use seedfarm_core::{Epoch, ImageRange, JobId, LeaseId, NumericClass, PixelDigest, RecipeDigest, WorkerId};

use super::message::{Answer, Completion, Outcome, Request, StoredJob, StoredLease};

/// Which guard is taken away, to show that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// None.
    All,
    /// A completion counts whether its lease is held or not.
    WithoutFence,
    /// A coordinator may write whose epoch is over.
    WithoutEpoch,
    /// Completions are answered before they are stored.
    EarlyAnswer,
}

/// The pixels that an image must have.
pub fn pixels(job: JobId, index: u64) -> u64 {
    (job.as_uuid().as_u128() as u64).wrapping_mul(1_000_003) ^ index
}

/// Whether an image cannot be rendered.
pub const fn is_poison(index: u64) -> bool {
    index % 17 == 13
}

/// The id of a worker.
pub fn worker_id(worker: usize) -> WorkerId {
    WorkerId::from_uuid(uuid::Uuid::from_u128(worker as u128 + 1))
}

#[derive(Debug)]
struct Job {
    number: i64,
    total: u64,
    cursor: u64,
    done: u64,
    failed: u64,
    results: BTreeMap<u64, u64>,
    dead: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Lease {
    job: JobId,
    range: ImageRange,
    fence: Fence,
    worker: usize,
    avoid: Vec<WorkerId>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Store {
    guards: Guards,
    epoch: Epoch,
    /// The coordinator that holds the lock, and in which of its lives.
    holder: Option<(usize, u64)>,
    jobs: BTreeMap<JobId, Job>,
    ranges: BTreeMap<i64, (JobId, Retry)>,
    leases: BTreeMap<LeaseId, Lease>,
    /// Leases that are over: the checks' own knowledge, which decides nothing.
    over: BTreeSet<LeaseId>,
    next: i64,
}

impl Store {
    pub fn new(guards: Guards, jobs: &[u64]) -> Self {
        let job = |(number, &total): (usize, &u64)| {
            let id = JobId::from_uuid(uuid::Uuid::from_u128(number as u128 + 1));
            let (results, dead) = (BTreeMap::new(), BTreeSet::new());
            (id, Job { number: number as i64, total, cursor: 0, done: 0, failed: 0, results, dead })
        };
        Self {
            guards,
            epoch: Epoch(0),
            holder: None,
            jobs: jobs.iter().enumerate().map(job).collect(),
            ranges: BTreeMap::new(),
            leases: BTreeMap::new(),
            over: BTreeSet::new(),
            next: 0,
        }
    }

    /// The lock is let go, if it is still held by that life of the coordinator.
    pub fn unlock(&mut self, coordinator: usize, life: u64) {
        self.holder.take_if(|holder| *holder == (coordinator, life));
    }

    /// Whether an image has a result.
    pub fn has(&self, job: JobId, index: u64) -> bool {
        self.jobs[&job].results.contains_key(&index)
    }

    pub fn is_finished(&self) -> bool {
        self.jobs.values().all(|job| job.done + job.failed == job.total)
    }

    /// One transaction.
    pub fn run(&mut self, from: (usize, u64), request: Request) -> Result<Answer, String> {
        let epoch = match &request {
            Request::TakeOver => return Ok(self.take_over(from)),
            Request::Claim { epoch, .. }
            | Request::Complete { epoch, .. }
            | Request::Release { epoch, .. } => *epoch,
        };
        if epoch != self.epoch {
            if self.guards != Guards::WithoutEpoch {
                return Ok(Answer::Deposed);
            }
            return Err(format!("a deposed coordinator wrote in epoch {epoch}: {request:?}"));
        }
        let answer = match request {
            Request::Claim { epoch, claims } => self.claim(epoch, claims),
            Request::Complete { completion, .. } => self.complete(completion)?,
            Request::Release { lease, .. } => self.release(lease),
            Request::TakeOver => unreachable!("it was answered"),
        };
        self.check()?;
        Ok(answer)
    }

    fn take_over(&mut self, from: (usize, u64)) -> Answer {
        if self.holder.is_some_and(|holder| holder != from) {
            return Answer::Held;
        }
        self.holder = Some(from);
        self.epoch = Epoch(self.epoch.0 + 1);
        let jobs = self.jobs.iter().filter(|(_, job)| job.done + job.failed < job.total);
        let stored = jobs.map(|(&id, job)| StoredJob {
            id,
            number: job.number,
            fresh: ImageRange::new(job.cursor, job.total),
            retries: self
                .ranges
                .values()
                .filter(|(of, _)| *of == id)
                .map(|(_, retry)| retry.clone())
                .collect(),
        });
        let jobs = stored.collect();
        let lease = |lease: &Lease| StoredLease { fence: lease.fence, worker: lease.worker };
        Answer::Reign { epoch: self.epoch, jobs, leases: self.leases.values().map(lease).collect() }
    }

    fn claim(&mut self, epoch: Epoch, claims: Vec<(usize, Pick)>) -> Answer {
        let leases = claims.iter().map(|(worker, pick)| self.lease(epoch, *worker, pick)).collect();
        Answer::Claimed { claims, leases }
    }

    fn lease(&mut self, epoch: Epoch, worker: usize, pick: &Pick) -> Option<LeaseId> {
        match pick.source {
            Source::Fresh => {
                let job = self.jobs.get_mut(&pick.job).filter(|job| job.cursor == pick.range.lo())?;
                job.cursor = pick.range.hi();
            }
            Source::Twin => unreachable!("second leases are left out of this world"),
            Source::Retry { row, rest } => {
                let end = rest.map_or(pick.range.hi(), ImageRange::hi);
                let whole = ImageRange::new(pick.range.lo(), end)?;
                let (_, stored) = self.ranges.get_mut(&row).filter(|(_, stored)| stored.range == whole)?;
                match rest {
                    Some(rest) => stored.range = rest,
                    None => drop(self.ranges.remove(&row)),
                }
            }
        }
        let id = LeaseId(self.number());
        let fence = Fence { lease: id, attempt: pick.attempt, epoch };
        let lease = Lease { job: pick.job, range: pick.range, fence, worker, avoid: pick.avoid.clone() };
        self.leases.insert(id, lease);
        Some(id)
    }

    fn complete(&mut self, completion: Completion) -> Result<Answer, String> {
        let id = completion.fence.lease;
        let matches = |lease: &&Lease| lease.fence == completion.fence && lease.worker == completion.worker;
        let held = self.leases.get(&id).filter(matches).cloned();
        if held.is_some() {
            self.leases.remove(&id);
        }
        let counts = held.is_some() || self.guards == Guards::WithoutFence;
        let mut outcome = Outcome::default();
        for &(index, offered) in &completion.images {
            let reception = self.receive(counts, completion.job, index, offered);
            if reception == Reception::Accepted && self.over.contains(&id) {
                return Err(format!("{}/{index} was accepted after its lease was over", completion.job));
            }
            outcome.receptions.push(reception);
        }
        if let Some(lease) = held {
            self.over.insert(id);
            outcome.retry = self.settle(&lease, completion.failure);
        }
        let job = &self.jobs[&completion.job];
        outcome.finished = job.done + job.failed == job.total;
        Ok(Answer::Completed { completion, outcome })
    }

    fn receive(&mut self, counts: bool, job: JobId, index: u64, offered: u64) -> Reception {
        let rendered = |pixels: u64| Rendered {
            recipe: RecipeDigest::of_bytes(b"recipe"),
            class: NumericClass::of_bytes(b"class"),
            pixels: PixelDigest::of_bytes(&pixels.to_le_bytes()),
        };
        let job = self.jobs.get_mut(&job).expect("jobs stay");
        let stored = job.results.get(&index).copied().map(rendered);
        let reception = receive(counts, stored, rendered(offered));
        if reception == Reception::Accepted {
            job.results.insert(index, offered);
            job.done += 1;
        }
        reception
    }

    fn settle(&mut self, lease: &Lease, failure: Option<FailureClass>) -> Vec<Retry> {
        let job = self.jobs.get_mut(&lease.job).expect("jobs stay");
        let settled =
            job.results.range(lease.range.lo()..lease.range.hi()).map(|(&index, _)| index).collect();
        let aftermath = settle(lease.range, lease.fence.attempt, &settled, failure);
        for range in aftermath.dead {
            job.failed += range.len();
            job.dead.extend(range.indices());
        }
        let mut avoid = lease.avoid.clone();
        let faulty = matches!(failure, Some(FailureClass::Task | FailureClass::Worker));
        if faulty && !avoid.contains(&worker_id(lease.worker)) {
            avoid.push(worker_id(lease.worker));
        }
        let retry = aftermath.retry.into_iter();
        retry.map(|(range, spent)| self.store_range(lease.job, range, spent, avoid.clone())).collect()
    }

    fn store_range(&mut self, job: JobId, range: ImageRange, spent: i32, avoid: Vec<WorkerId>) -> Retry {
        let retry = Retry { row: self.number(), range, spent, not_before_ms: 0, avoid };
        self.ranges.insert(retry.row, (job, retry.clone()));
        retry
    }

    fn release(&mut self, id: LeaseId) -> Answer {
        let Some(lease) = self.leases.remove(&id) else {
            return Answer::Released { job: None, retry: Vec::new() };
        };
        self.over.insert(id);
        let retry = self.settle(&lease, Some(FailureClass::Worker));
        Answer::Released { job: Some(lease.job), retry }
    }

    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    /// Every image in exactly one place, every counter right, every pixel as it must be.
    fn check(&self) -> Result<(), String> {
        for (&id, job) in &self.jobs {
            let mut places = vec![0u8; job.total as usize];
            let mut put = |index: u64| places[index as usize] += 1;
            job.results.keys().chain(&job.dead).copied().for_each(&mut put);
            (job.cursor..job.total).for_each(&mut put);
            let ranges = self.ranges.values().filter(|(of, _)| *of == id).map(|(_, retry)| retry.range);
            let leases = self.leases.values().filter(|lease| lease.job == id).map(|lease| lease.range);
            ranges.chain(leases).flat_map(ImageRange::indices).for_each(&mut put);
            if let Some(index) = places.iter().position(|&places| places != 1) {
                return Err(format!("{id}/{index} is in {} places", places[index]));
            }
            if (job.done, job.failed) != (job.results.len() as u64, job.dead.len() as u64) {
                return Err(format!("{id} counts {} done and {} failed", job.done, job.failed));
            }
        }
        Ok(())
    }

    /// What must hold when all is finished.
    pub fn check_end(&self) -> Result<(), String> {
        for (&id, job) in &self.jobs {
            if let Some((index, _)) =
                job.results.iter().find(|(index, stored)| **stored != pixels(id, **index))
            {
                return Err(format!("{id}/{index} has other pixels"));
            }
            let poison: BTreeSet<u64> = (0..job.total).filter(|&index| is_poison(index)).collect();
            if job.dead != poison {
                return Err(format!("{id} gave up {:?}, and {poison:?} cannot be rendered", job.dead));
            }
        }
        match (self.leases.len(), self.ranges.len()) {
            (0, 0) => Ok(()),
            (leases, ranges) => Err(format!("{leases} leases and {ranges} ranges are left over")),
        }
    }

    /// Says what is left, for the message of a history that does not end.
    pub fn left(&self) -> String {
        let jobs =
            self.jobs.iter().map(|(id, job)| format!("{id}: {}+{} of {}", job.done, job.failed, job.total));
        let jobs: Vec<String> = jobs.collect();
        format!("{jobs:?}, {} leases, {} ranges", self.leases.len(), self.ranges.len())
    }
}
