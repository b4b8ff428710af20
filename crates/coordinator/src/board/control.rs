//! What people change while jobs run. Each follows what is stored already.

use seedfarm_core::terms::{Hold, LimitKey, TenantPolicy};
use seedfarm_core::{ImageRange, JobId, JobState, TenantName};
use seedfarm_store::Unfinished;
use tokio::time::Instant;

use super::Board;

impl Board {
    /// Replaces what is known of a job's terms and waiting images by what is stored now; its leases stay. Nothing
    /// may be on its way between store and board meanwhile.
    pub(crate) fn reload(&mut self, unfinished: Unfinished, now: Instant) {
        let Unfinished { job, context, ranges } = unfinished;
        let id = job.id;
        match self.jobs.get_mut(&id) {
            None => self.add_job(job, context, Vec::new(), now),
            Some(card) => {
                self.queue.set_terms(id, job.terms.clone(), &context.cancelled);
                // Stored ranges lie below the cursor: all that are known go, and those that are stored come.
                if let Some(below) = ImageRange::new(0, job.cursor) {
                    self.queue.skip(id, below);
                }
                card.row = job;
            }
        }
        ranges.into_iter().for_each(|row| self.queue.give_back(id, row.retry));
    }

    /// A job that reached a cap is paused in the store.
    pub(super) fn hold(&mut self, job: JobId, hold: Hold) {
        if let Some(card) = self.jobs.get_mut(&job) {
            card.row.state = JobState::Paused;
            card.row.hold = Some(hold);
            self.queue.set_active(job, false, Some(hold));
        }
    }

    /// A tenant has another share.
    pub(crate) fn put_tenant(&mut self, name: &TenantName, policy: TenantPolicy) {
        self.queue.set_tenant(name, policy);
    }

    /// At most so many devices render for a model or under a licence.
    pub(crate) fn put_limit(&mut self, key: LimitKey, most: Option<u32>) {
        self.queue.set_limit(key, most);
    }
}
