//! How long to wait before trying again.

use std::time::Duration;

use seedfarm_core::WorkerId;
use seedfarm_proto::error::retry_after;
use tonic::{Code, Status};

/// The longest that a coordinator may ask a worker to wait.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// Delays that double from `first` to `most`, spread so that workers which lost the same coordinator do
/// not all come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first delay.
    pub first: Duration,
    /// The longest delay of all.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(15) }
    }
}

impl Backoff {
    /// The delay before attempt number `attempt` (from 0), half of it or more up to the whole, by the
    /// worker's id: the same worker waits the same, different workers wait differently.
    pub fn delay(&self, attempt: u32, worker: WorkerId) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.min(20));
        let whole = doubled.min(self.most);
        whole.mul_f64(0.5 + spread(attempt, worker) / 2.0)
    }
}

impl Backoff {
    /// As [`Backoff::delay`], but as the coordinator asks: no longer where it stands by or leaves, as another one
    /// may be there at once; no shorter where it has too much to do, up to a minute.
    pub(crate) fn delay_after(&self, attempt: u32, worker: WorkerId, status: &Status) -> Duration {
        let delay = self.delay(attempt, worker);
        match retry_after(status).map(|asked| asked.min(LONGEST_WISH)) {
            None => delay,
            Some(asked) if status.code() == Code::Unavailable => delay.min(asked),
            Some(asked) => delay.max(asked),
        }
    }
}

/// A number from 0 to 1 by worker and attempt: FNV-1a over both.
fn spread(attempt: u32, worker: WorkerId) -> f64 {
    let id = worker.as_uuid().into_bytes();
    let hash = id.iter().chain(&attempt.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash >> 40) as f64 / (1_u64 << 24) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn worker(number: u128) -> WorkerId {
        WorkerId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn delays_double_up_to_the_longest_and_no_attempt_overflows() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(10) };
        for (attempt, whole) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (u32::MAX, 10)] {
            let delay = backoff.delay(attempt, worker(7));
            let whole = Duration::from_secs(whole);
            assert!(delay >= whole / 2 && delay <= whole, "{attempt}: {delay:?}");
        }
    }

    #[test]
    fn a_coordinator_can_ask_for_a_longer_delay_but_not_for_ever() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(10) };
        let after = |seconds| {
            let status = seedfarm_proto::error::try_again("BUSY", "busy", Duration::from_secs(seconds));
            backoff.delay_after(2, worker(7), &status)
        };
        assert_eq!(after(20), Duration::from_secs(20));
        assert_eq!(after(0), backoff.delay(2, worker(7)));
        assert_eq!(after(3600), LONGEST_WISH);
    }

    #[test]
    fn workers_that_lost_the_same_coordinator_come_back_at_different_times() {
        let backoff = Backoff::default();
        let mut delays: Vec<Duration> = (0..100).map(|id| backoff.delay(6, worker(id))).collect();
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 90, "{} different delays", delays.len());
        assert_eq!(backoff.delay(6, worker(1)), backoff.delay(6, worker(1)));
    }
}
