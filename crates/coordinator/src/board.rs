//! The board: what the one active coordinator keeps in memory of unfinished jobs, leases that are out and
//! workers that are connected.
//!
//! It is a cache of what PostgreSQL holds and is rebuilt from there at start. It does no IO and reads no
//! clock; whoever holds its mutex must not wait for anything. Messages to workers go into bounded queues
//! that are never waited for: a worker whose queue is full loses its session.

mod card;
mod control;
mod explain;
mod granting;
mod hunger;
mod leases;
mod owners;
mod rebuild;
mod sessions;
mod stock;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use seedfarm_core::placement::{DeviceId, Queue};
use seedfarm_core::terms::Hold;
use seedfarm_core::{JobId, JobState, LeaseId, WorkerId};
use seedfarm_store::{JobContext, JobRow};
use tokio::time::Instant;

pub(crate) use card::JobCard;
pub(crate) use explain::DeviceView;
pub(crate) use granting::{Grantee, PendingGrant};
pub(crate) use leases::{Lease, Settlement};
pub(crate) use sessions::{DeviceIntroduction, Introduction, Outbox, SessionId, WorkerView};
pub(crate) use stock::Restock;

use hunger::Hunger;
use sessions::Session;

/// How leases are timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// A lease that is not renewed for so long goes to another.
    pub(crate) lease_ttl: Duration,
    /// How long a lease should take to render.
    pub(crate) target: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Board {
    pace: Pace,
    queue: Queue,
    jobs: HashMap<JobId, JobCard>,
    leases: HashMap<LeaseId, Lease>,
    leases_by_job: HashMap<JobId, BTreeSet<LeaseId>>,
    sessions: HashMap<WorkerId, Session>,
    last_session: u64,
    /// Leases out and grants on their way, by device.
    load: HashMap<DeviceId, usize>,
    hunger: Hunger,
}

impl Board {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace,
            queue: Queue::default(),
            jobs: HashMap::new(),
            leases: HashMap::new(),
            leases_by_job: HashMap::new(),
            sessions: HashMap::new(),
            last_session: 0,
            load: HashMap::new(),
            hunger: Hunger::default(),
        }
    }

    /// Adds a stored job that is not final; one that is there already stays as it is. `fresh_avoid` are the
    /// workers that its fresh images pass over.
    pub(crate) fn add_job(
        &mut self,
        row: JobRow,
        context: JobContext,
        fresh_avoid: Vec<WorkerId>,
        now: Instant,
    ) {
        if row.state.is_final() || self.jobs.contains_key(&row.id) {
            return;
        }
        self.queue.insert(rebuild::queued(&row, context, fresh_avoid));
        self.jobs.insert(row.id, JobCard::new(row, now));
    }

    /// Follows a state that is stored now. Answers what was leased and must be revoked.
    pub(crate) fn set_state(&mut self, job: JobId, state: JobState) -> Vec<LeaseId> {
        let Some(card) = self.jobs.get_mut(&job) else { return Vec::new() };
        card.row.state = state;
        card.row.hold = (state == JobState::Paused).then_some(Hold::Person);
        self.queue.set_active(job, state == JobState::Active, card.row.hold);
        if !state.is_final() {
            return Vec::new();
        }
        self.drop_job(job, state);
        self.leases_by_job.get(&job).into_iter().flatten().copied().collect()
    }

    /// An unfinished job.
    pub(crate) fn job(&self, job: JobId) -> Option<&JobCard> {
        self.jobs.get(&job)
    }

    /// Unfinished jobs.
    pub(crate) fn active_jobs(&self) -> usize {
        self.jobs.values().filter(|card| card.row.state == JobState::Active).count()
    }

    fn drop_job(&mut self, job: JobId, state: JobState) {
        self.jobs.remove(&job);
        match state {
            JobState::Cancelled => self.queue.cancel(job),
            _ => self.queue.finish(job),
        }
    }
}
