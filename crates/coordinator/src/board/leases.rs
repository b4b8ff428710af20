//! Leases that are out: renewal, expiry, settlement.

use std::collections::HashSet;
use std::sync::Arc;

use seedfarm_core::completion::Fence;
use seedfarm_core::placement::{DeviceId, Ended, Pick, Timing};
use seedfarm_core::{ImageRange, JobId, JobState, LeaseId, WorkerId};
use seedfarm_store::{Progress, RangeRow};
use tokio::time::Instant;

use super::Board;
use crate::recipes::LeasedWork;

/// A range that is out.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) fence: Fence,
    pub(crate) job: JobId,
    pub(crate) range: ImageRange,
    pub(crate) device: DeviceId,
    /// What was sent along; absent for a lease from before this coordinator started.
    pub(crate) work: Option<Arc<LeasedWork>>,
    /// Not renewed by then, it goes to another.
    pub(super) deadline: Instant,
    /// On its way back already.
    pub(super) ending: bool,
}

/// What the store said about the end of a lease.
#[derive(Debug, Clone)]
pub(crate) struct Settlement {
    /// The lease; absent when the fence did not hold.
    pub(crate) lease: Option<LeaseId>,
    /// Ranges stored to be leased again.
    pub(crate) retries: Vec<RangeRow>,
    /// How long images took on the device, where some came.
    pub(crate) timing: Option<Timing>,
}

impl Lease {
    pub(super) fn new(fence: Fence, pick: &Pick, deadline: Instant, ending: bool) -> Self {
        Self { fence, job: pick.job, range: pick.range, device: pick.device, work: None, deadline, ending }
    }
}

impl Board {
    /// The lease behind a fence, if it is out.
    pub(crate) fn lease(&self, fence: &Fence) -> Option<&Lease> {
        self.leases.get(&fence.lease).filter(|lease| lease.fence == *fence)
    }

    /// Leases out.
    pub(crate) fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Leases of one job, and the workers that hold them.
    pub(crate) fn leases_of(&self, job: JobId) -> (u32, u32) {
        let held = self.leases_by_job.get(&job).into_iter().flatten();
        let held: Vec<&Lease> = held.filter_map(|lease| self.leases.get(lease)).collect();
        let workers: HashSet<WorkerId> = held.iter().map(|lease| lease.device.worker).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (count(held.len()), count(workers.len()))
    }

    /// Keeps what was sent with a lease, to check its completion against.
    pub(crate) fn remember(&mut self, lease: LeaseId, work: Arc<LeasedWork>) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.work = Some(work);
        }
    }

    /// A worker lives and holds these. Answers those that it holds in vain: unknown here, another's, or
    /// on their way back.
    pub(crate) fn renew(&mut self, worker: WorkerId, held: &[Fence], now: Instant) -> Vec<Fence> {
        if let Some(session) = self.sessions.get_mut(&worker) {
            session.heard = now;
        }
        let deadline = now + self.pace.lease_ttl;
        let mut vain = Vec::new();
        for fence in held {
            match self.leases.get_mut(&fence.lease) {
                Some(lease) if lease.fence == *fence && lease.device.worker == worker && !lease.ending => {
                    lease.deadline = deadline;
                }
                _ => vain.push(*fence),
            }
        }
        vain
    }

    /// Leases whose time is over, each once.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<LeaseId> {
        let due = self.leases.values_mut().filter(|lease| lease.deadline <= now && !lease.ending);
        let ended = due.map(|lease| {
            lease.ending = true;
            lease.fence.lease
        });
        ended.collect()
    }

    /// The worker and fence of a lease.
    pub(crate) fn holder(&self, lease: LeaseId) -> Option<(WorkerId, Fence)> {
        self.leases.get(&lease).map(|lease| (lease.device.worker, lease.fence))
    }

    /// A lease is over in the store: follows what is stored there.
    pub(crate) fn settle(&mut self, settlement: Settlement) {
        if let Some(lease) = settlement.lease {
            self.take_lease(lease, settlement.timing);
        }
        for row in settlement.retries {
            self.queue.give_back(row.job, row.retry);
        }
    }

    pub(super) fn put_lease(&mut self, lease: Lease, now: Instant) {
        if let Some(card) = self.jobs.get_mut(&lease.job) {
            card.lease_out(now);
        }
        self.leases_by_job.entry(lease.job).or_default().insert(lease.fence.lease);
        self.leases.insert(lease.fence.lease, lease);
    }

    /// A lease is not in the store any more.
    pub(crate) fn forget_lease(&mut self, lease: LeaseId) {
        self.take_lease(lease, None);
    }

    fn take_lease(&mut self, lease: LeaseId, timing: Option<Timing>) {
        let Some(lease) = self.leases.remove(&lease) else { return };
        if let Some(leases) = self.leases_by_job.get_mut(&lease.job) {
            leases.remove(&lease.fence.lease);
            if leases.is_empty() {
                self.leases_by_job.remove(&lease.job);
            }
        }
        let Lease { job, range, device, .. } = lease;
        self.queue.end(&Ended { job, range, device, timing });
        if let Some(card) = self.jobs.get_mut(&lease.job) {
            card.lease_over();
        }
        self.set_load(device, self.load_of(device).saturating_sub(1));
    }

    /// Takes over a job's stored counters; a job that is finished leaves the board.
    pub(crate) fn count(&mut self, progress: &Progress, now: Instant) {
        if let Some(card) = self.jobs.get_mut(&progress.job) {
            card.count(progress.done, progress.failed, now);
        }
        if let Some(hold) = progress.held {
            self.hold(progress.job, hold);
        }
        if progress.finished {
            self.drop_job(progress.job, JobState::Finished);
        }
    }
}
