//! The order of one tenant's jobs. It does not change with time, so that the index need not be sorted
//! anew, and yet every job comes to the front: what was submitted later ranks behind in the end.

use crate::id::JobId;
use crate::terms::{JobTerms, Urgency};

/// How much earlier a job counts as submitted for each step of priority, in milliseconds.
const PRIORITY_MS: i64 = 60_000;
/// The same where somebody waits.
const INTERACTIVE_MS: i64 = 6 * 3_600_000;
/// The same where the deadline would be missed otherwise.
const AT_RISK_MS: i64 = 24 * 3_600_000;
/// Between two looks at a deadline, at least.
const LOOK_MS: i64 = 1_000;

/// The time as whose a job counts as submitted, in milliseconds since 1970-01-01 UTC; the id tells equal ones
/// apart. Least goes first.
pub(super) type Rank = (i64, JobId);

pub(super) fn rank(id: JobId, created_at_ms: i64, terms: &JobTerms, at_risk: bool) -> Rank {
    let earlier = i64::from(terms.priority) * PRIORITY_MS
        + if terms.urgency == Urgency::Interactive { INTERACTIVE_MS } else { 0 }
        + if at_risk { AT_RISK_MS } else { 0 };
    (created_at_ms.saturating_sub(earlier), id)
}

/// When a job must go first to meet its deadline: `remaining_ms` of device time on `devices` devices before.
pub(super) fn latest_start(deadline_ms: i64, remaining_ms: f64, devices: usize) -> i64 {
    deadline_ms.saturating_sub((remaining_ms / devices.max(1) as f64) as i64)
}

/// When to look again whether a job has come to its latest start: halfway, as devices come and go and speeds
/// turn out otherwise.
pub(super) fn next_look(latest_start_ms: i64, now_ms: i64) -> i64 {
    now_ms.saturating_add((latest_start_ms.saturating_sub(now_ms) / 2).max(LOOK_MS))
}
