//! The board as the store has it, at the start of a reign.

use seedfarm_core::placement::{Class, DeviceId, Group, Leased, QueuedJob};
use seedfarm_core::terms::Requirements;
use seedfarm_core::{JobId, JobState, WorkerId};
use seedfarm_store::{JobContext, JobRow, LeaseRow, Snapshot};
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
        let mut contexts = snapshot.contexts;
        board.queue.wake(now_ms);
        for row in snapshot.jobs {
            let (avoid, context) = (avoid(row.id), contexts.remove(&row.id).unwrap_or_default());
            board.add_job(row, context, avoid, now);
        }
        for mut range in snapshot.ranges {
            // No deferral is longer than a term; a database with another clock must not stretch it.
            range.retry.not_before_ms = range.retry.not_before_ms.min(now_ms.saturating_add(ttl_ms));
            board.queue.give_back(range.job, range.retry);
        }
        for row in snapshot.leases {
            let device = DeviceId { worker: row.worker, device: row.device };
            board.set_load(device, board.load_of(device) + 1);
            board.queue.stands(leased(&row));
            board.put_lease(stored(row, now + pace.lease_ttl), now);
        }
        board
    }
}

fn leased(row: &LeaseRow) -> Leased {
    Leased {
        job: row.job,
        range: row.range,
        device: DeviceId { worker: row.worker, device: row.device },
        attempt: row.fence.attempt,
        avoid: row.avoid.clone(),
        twin: row.twin,
        twinned: row.twinned,
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

/// What a device must be to render a job.
pub(super) fn class(row: &JobRow, licence: Option<String>) -> Class {
    Class {
        group: Group { model: row.model_digest, numerics: row.numerics },
        model_name: row.model_name.clone(),
        licence,
        adapters: row.needs.clone(),
        requirements: Requirements::default(),
        demand: row.demand.clone(),
    }
    .under(&row.terms)
}

/// A stored job as placement sees it.
pub(super) fn queued(row: &JobRow, context: JobContext, fresh_avoid: Vec<WorkerId>) -> QueuedJob {
    QueuedJob {
        id: row.id,
        class: class(row, context.licence),
        weights_bytes: context.weights_bytes,
        terms: row.terms.clone(),
        cancelled: context.cancelled,
        created_at_ms: row.created_at_ms,
        active: row.state == JobState::Active,
        hold: row.hold,
        fresh: row.fresh(),
        fresh_avoid,
        retries: Vec::new(),
    }
}
