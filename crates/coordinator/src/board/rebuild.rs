//! The board as the store has it, at the start of a reign.

use seedfarm_core::WorkerId;
use seedfarm_core::placement::{DeviceId, Group, QueuedJob};
use seedfarm_core::{JobId, JobState};
use seedfarm_store::{JobRow, LeaseRow, Snapshot};
use tokio::time::Instant;

use super::{Board, Lease, Pace};

impl Board {
    /// Builds the board anew at `now`, which is `now_ms` since 1970-01-01 UTC. Every stored lease gets a full term of grace, so that its worker can come
    /// back. `avoid` tells which workers the fresh images of a job pass over.
    pub(crate) fn rebuilt(
        pace: Pace,
        snapshot: Snapshot,
        avoid: impl Fn(JobId) -> Vec<WorkerId>,
        now: Instant,
        now_ms: i64,
    ) -> Self {
        let ttl_ms = i64::try_from(pace.lease_ttl.as_millis()).unwrap_or(i64::MAX);
        let mut board = Self::new(pace);
        for row in snapshot.jobs {
            let avoid = avoid(row.id);
            board.add_job(row, avoid, now);
        }
        for mut range in snapshot.ranges {
            // No deferral is longer than a term; a database with another clock must not stretch it.
            range.retry.not_before_ms = range.retry.not_before_ms.min(now_ms.saturating_add(ttl_ms));
            board.queue.give_back(range.job, range.retry);
        }
        for row in snapshot.leases {
            let device = DeviceId { worker: row.worker, device: row.device };
            board.set_load(device, board.load_of(device) + 1);
            board.put_lease(stored(row, now + pace.lease_ttl), now);
        }
        board
    }
}

fn stored(row: LeaseRow, deadline: Instant) -> Lease {
    Lease {
        fence: row.fence,
        job: row.job,
        range: row.range,
        device: DeviceId { worker: row.worker, device: row.device },
        work: None,
        deadline,
        ending: false,
    }
}

/// A stored job as placement sees it.
pub(super) fn queued(row: &JobRow, fresh_avoid: Vec<WorkerId>) -> QueuedJob {
    QueuedJob {
        id: row.id,
        group: Group { model: row.model_digest, numerics: row.numerics },
        needs: row.needs.clone(),
        priority: row.priority,
        created_at_ms: row.created_at_ms,
        active: row.state == JobState::Active,
        fresh: row.fresh(),
        fresh_avoid,
        retries: Vec::new(),
    }
}
