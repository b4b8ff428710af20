//! Keeping the index in step with one job: whether it is ready, what counts among the work that waits for
//! its load, whether its leases may be late.

use super::fleet::ClassId;
use super::job::Standing;
use super::queue::{Queue, Timer};
use super::rank::Rank;
use super::tenants::TenantId;
use crate::id::JobId;

impl Queue {
    /// Brings the index in step with a job, after anything about it has changed.
    pub(super) fn refresh(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get(&job) else { return };
        let standing = entry.standing(self.cap_of(entry));
        let waiting = if standing == Standing::Out { 0 } else { entry.work.waiting() };
        let due = entry.work.due_ms();
        self.stand(job, standing);
        self.count_waiting(job, waiting);
        self.close(job);
        self.set_timer(job, Timer::Deferred, due);
    }

    /// Gives a job that goes on another rank. Its tenant competes all the while.
    pub(super) fn rerank(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let (class, tenant, before) = (entry.class, entry.tenant, entry.rank);
        entry.set_rank(job);
        let (after, ready) = (entry.rank, entry.standing == Standing::Ready);
        if ready {
            self.delist(class, tenant, before);
            self.list(class, tenant, after);
        }
    }

    /// Takes a job out of the index, before its rank, class or tenant changes or it goes.
    pub(super) fn unlist(&mut self, job: JobId) {
        self.stand(job, Standing::Out);
        self.count_waiting(job, 0);
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        if std::mem::take(&mut entry.closing) {
            for (lo, late) in entry.late() {
                self.closing.remove(&(late, job, lo));
            }
        }
    }

    fn stand(&mut self, job: JobId, standing: Standing) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let before = std::mem::replace(&mut entry.standing, standing);
        if before == standing {
            return;
        }
        let (class, tenant, rank) = (entry.class, entry.tenant, entry.rank);
        match (before == Standing::Out, standing == Standing::Out) {
            (true, false) => {
                self.ready += 1;
                self.tenants.set_ready(tenant, true);
                self.unstamped.push(job);
            }
            (false, true) => {
                self.ready -= 1;
                self.tenants.set_ready(tenant, false);
            }
            _ => {}
        }
        if standing == Standing::Ready {
            self.list(class, tenant, rank);
        } else if before == Standing::Ready {
            self.delist(class, tenant, rank);
        }
    }

    fn list(&mut self, class: ClassId, tenant: TenantId, rank: Rank) {
        self.stirred.insert(class);
        if let Some(ready) = &mut self.classes[class.index()] {
            ready.ready.entry(tenant).or_default().insert(rank);
            ready.tenants.insert(tenant.index());
        }
    }

    fn delist(&mut self, class: ClassId, tenant: TenantId, rank: Rank) {
        let Some(ready) = &mut self.classes[class.index()] else { return };
        let Some(ranks) = ready.ready.get_mut(&tenant) else { return };
        ranks.remove(&rank);
        if ranks.is_empty() {
            ready.ready.remove(&tenant);
            ready.tenants.remove(tenant.index());
        }
    }

    fn count_waiting(&mut self, job: JobId, waiting: u64) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let load = self.loads.get_mut(entry.load);
        load.waiting = load.waiting - entry.counted + waiting;
        entry.counted = waiting;
    }

    /// Lists a job's leases among those that may be late, once nothing else is left of it.
    fn close(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let closing = entry.is_closing();
        if closing == entry.closing {
            return;
        }
        entry.closing = closing;
        for (lo, late) in entry.late() {
            if closing {
                self.closing.insert((late, job, lo));
            } else {
                self.closing.remove(&(late, job, lo));
            }
        }
    }
}
