//! What is sent.

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::placement::{Pick, Retry};
use seedfarm_core::{Epoch, ImageRange, JobId, LeaseId};

/// A worker's report that a lease is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub worker: usize,
    pub fence: Fence,
    pub job: JobId,
    /// Index and pixels.
    pub images: Vec<(u64, u64)>,
    pub failure: Option<FailureClass>,
}

/// What a worker may render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub fence: Fence,
    pub job: JobId,
    pub range: ImageRange,
}

/// From a worker to a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Hello { held: Vec<Fence> },
    Credit,
    Heartbeat { held: Vec<Fence> },
    Complete(Completion),
}

/// From a coordinator to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Welcome,
    Grant(Grant),
    Settled { completion: Completion, receptions: Vec<Reception> },
    Revoke(Fence),
}

/// From a coordinator to the store: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    TakeOver,
    Claim { epoch: Epoch, claims: Vec<(usize, Pick)> },
    Complete { epoch: Epoch, completion: Completion },
    Release { epoch: Epoch, lease: LeaseId },
}

/// From the store to a coordinator.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The lock is another's.
    Held,
    Reign {
        epoch: Epoch,
        jobs: Vec<StoredJob>,
        leases: Vec<StoredLease>,
    },
    Claimed {
        claims: Vec<(usize, Pick)>,
        leases: Vec<Option<LeaseId>>,
    },
    Completed {
        completion: Completion,
        outcome: Outcome,
    },
    Released {
        job: Option<JobId>,
        retry: Vec<Retry>,
    },
    /// The epoch is over; nothing was stored.
    Deposed,
    /// The connection broke; nothing was stored.
    Failed(Request),
}

/// What a completion came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub receptions: Vec<Reception>,
    pub retry: Vec<Retry>,
    pub finished: bool,
}

/// An unfinished job.
#[derive(Debug, Clone)]
pub struct StoredJob {
    pub id: JobId,
    pub number: i64,
    pub fresh: Option<ImageRange>,
    pub retries: Vec<Retry>,
}

/// A lease that is out.
#[derive(Debug, Clone)]
pub struct StoredLease {
    pub fence: Fence,
    pub worker: usize,
}
