//! How much one peer may ask for in a time: a token bucket.

use std::time::Duration;

/// What a peer may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// In the long run.
    pub per_second: f64,
    /// At once, after a time of silence; at least 1.
    pub burst: f64,
}

/// What is left of a quota. Times are durations since any one moment, and must not go back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    left: f64,
    at: Duration,
}

impl Bucket {
    /// Of a peer that has not asked for anything yet.
    pub const fn full(quota: Quota, now: Duration) -> Self {
        Self { left: quota.burst, at: now }
    }

    /// Takes one; where nothing is left, answers how long it is until there is.
    pub fn take(&mut self, quota: Quota, now: Duration) -> Result<(), Duration> {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + since * quota.per_second).min(quota.burst);
        self.at = self.at.max(now);
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / quota.per_second));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUOTA: Quota = Quota { per_second: 10.0, burst: 20.0 };

    #[test]
    fn a_burst_passes_and_what_follows_it_waits() {
        let mut bucket = Bucket::full(QUOTA, Duration::ZERO);
        for _ in 0..20 {
            assert_eq!(bucket.take(QUOTA, Duration::ZERO), Ok(()));
        }
        assert_eq!(bucket.take(QUOTA, Duration::ZERO), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(QUOTA, Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(QUOTA, Duration::from_millis(50)).is_err(), "time does not go back");
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_quota_has(gaps in proptest::collection::vec(0u64..200, 1..300)) {
            let mut bucket = Bucket::full(QUOTA, Duration::ZERO);
            let (mut now, mut passed) = (Duration::ZERO, 0_u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                passed += u32::from(bucket.take(QUOTA, now).is_ok());
                let most = QUOTA.burst + now.as_secs_f64() * QUOTA.per_second;
                prop_assert!(f64::from(passed) <= most + 1e-6, "{passed} of {most} by {now:?}");
            }
        }
    }
}
