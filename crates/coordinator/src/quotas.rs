//! How much a caller may submit in a minute, by its token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use seedfarm_core::quota::{Bucket, Quota};
use seedfarm_proto::error;
use tokio::time::Instant;
use tonic::Status;

/// Submissions of one token: 3000 a minute. A job may hold ten million images, so nobody needs more.
const SUBMISSIONS: Quota = Quota { per_second: 50.0, burst: 3000.0 };

/// Who calls: the SHA-256 of its token, which opened the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Caller(pub(crate) [u8; 32]);

/// What is left to each caller. There are no more callers than tokens.
#[derive(Debug)]
pub(crate) struct Submissions {
    since: Instant,
    left: Mutex<HashMap<Caller, Bucket>>,
}

impl Submissions {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), left: Mutex::default() }
    }

    /// Lets one submission of a caller in, or says when to come back.
    pub(crate) fn admit(&self, caller: Caller) -> Result<(), Status> {
        let now = self.since.elapsed();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = left.entry(caller).or_insert(Bucket::full(SUBMISSIONS, now));
        bucket.take(SUBMISSIONS, now).map_err(|wait| {
            let a_minute = SUBMISSIONS.per_second * 60.0;
            let message = format!(
                "more than {a_minute} submissions a minute came with this token: put many prompts into one job, or \
                 wait a moment"
            );
            error::try_again("TOO_MANY_SUBMISSIONS", message, wait.max(Duration::from_secs(1)))
        })
    }
}
