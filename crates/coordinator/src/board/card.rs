//! One unfinished job as watchers see it.

use std::collections::VecDeque;
use std::time::Duration;

use seedfarm_store::JobRow;
use tokio::time::Instant;

/// How far back images a second are counted.
const WINDOW: Duration = Duration::from_secs(30);
/// Most samples kept; older ones are dropped first.
const SAMPLES: usize = 256;

/// A job with its counters and its recent speed.
#[derive(Debug)]
pub(crate) struct JobCard {
    pub(crate) row: JobRow,
    /// Images done, by the time at which that was known.
    samples: VecDeque<(Instant, u64)>,
    /// Its leases that are out.
    leases: u32,
}

impl JobCard {
    pub(super) fn new(row: JobRow, now: Instant) -> Self {
        let samples = VecDeque::from([(now, row.done)]);
        Self { row, samples, leases: 0 }
    }

    /// A lease goes out. The first one begins to count time: a job that waits is not a slow one.
    pub(super) fn lease_out(&mut self, now: Instant) {
        if self.leases == 0 {
            self.samples = VecDeque::from([(now, self.row.done)]);
        }
        self.leases += 1;
    }

    /// A lease is over.
    pub(super) fn lease_over(&mut self) {
        self.leases = self.leases.saturating_sub(1);
    }

    /// Takes over stored counters.
    pub(super) fn count(&mut self, done: u64, failed: u64, now: Instant) {
        self.row.done = self.row.done.max(done);
        self.row.failed = self.row.failed.max(failed);
        self.samples.push_back((now, self.row.done));
        while self.samples.len() > SAMPLES || self.starts_before(now) {
            self.samples.pop_front();
        }
    }

    /// Whether the window is spanned without the oldest sample.
    fn starts_before(&self, now: Instant) -> bool {
        self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
    }

    /// Images a second over the last while; 0 until it can be told.
    pub(crate) fn images_per_second(&self, now: Instant) -> f64 {
        let Some((since, before)) = self.samples.front() else { return 0.0 };
        let seconds = now.duration_since(*since).as_secs_f64();
        let images = self.row.done - before;
        if seconds > 0.0 { images as f64 / seconds } else { 0.0 }
    }
}
