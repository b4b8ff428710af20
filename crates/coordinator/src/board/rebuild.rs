//! The board as the store has it, at the start of a reign.

use seedfarm_core::WorkerId;
use seedfarm_core::placement::{DeviceId, Group, QueuedJob};
use seedfarm_core::{JobId, JobState};
use seedfarm_store::{JobRow, LeaseRow, Snapshot};
use tokio::time::Instant;

use super::{Board, Lease, Pace};

impl Board {
    /// Builds the board anew. Every stored lease gets a full term of grace, so that its worker can come
    /// back. `avoid` tells which workers the fresh images of a job pass over.
    pub(crate) fn rebuilt(
        pace: Pace,
        snapshot: Snapshot,
        avoid: impl Fn(JobId) -> Vec<WorkerId>,
        now: Instant,
    ) -> Self {
        let mut board = Self::new(pace);
        for row in snapshot.jobs {
            let avoid = avoid(row.id);
            board.add_job(row, avoid, now);
        }
        for range in snapshot.ranges {
            board.queue.give_back(range.job, range.retry);
        }
        for row in snapshot.leases {
            let device = DeviceId { worker: row.worker, device: row.device };
            board.set_load(device, board.load_of(device) + 1);
            board.leases.insert(row.fence.lease, stored(row, now + pace.lease_ttl));
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
        priority: row.priority,
        created_at_ms: row.created_at_ms,
        active: row.state == JobState::Active,
        fresh: row.fresh(),
        fresh_avoid,
        retries: Vec::new(),
    }
}
