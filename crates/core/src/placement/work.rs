//! What one job still has to give.

use std::collections::BTreeMap;

use crate::id::{Attempt, WorkerId};
use crate::range::ImageRange;

/// A range to be leased again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The row under which it is stored.
    pub row: i64,
    /// Its images.
    pub range: ImageRange,
    /// Attempts already spent on it.
    pub spent: i32,
    /// Not to be leased before this time, in milliseconds since 1970-01-01 UTC.
    pub not_before_ms: i64,
    /// Workers to pass over.
    pub avoid: Vec<WorkerId>,
}

/// Where a chosen range comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the job's cursor.
    Fresh,
    /// From the front of a stored range.
    Retry {
        /// The row under which it is stored.
        row: i64,
        /// What stays there.
        rest: Option<ImageRange>,
    },
    /// From a lease that is out for too long: it is rendered a second time beside it.
    Twin,
}

/// Images of a job that are not leased.
#[derive(Debug)]
pub(super) struct Work {
    fresh: Option<ImageRange>,
    /// Workers that fresh images pass over.
    fresh_avoid: Vec<WorkerId>,
    /// Ranges that may be leased now, by first image, then row.
    retries: BTreeMap<(u64, i64), Retry>,
    /// Ranges whose time has not come, by that time, then first image and row.
    deferred: BTreeMap<(i64, u64, i64), Retry>,
    waiting: u64,
}

/// A range that could be leased.
#[derive(Debug)]
pub(super) struct Open<'a> {
    /// As much of it as other jobs let through.
    pub(super) range: ImageRange,
    /// Its end as it is stored.
    pub(super) end: u64,
    pub(super) attempt: Attempt,
    pub(super) avoid: &'a [WorkerId],
    /// Absent for fresh images.
    pub(super) row: Option<i64>,
}

impl Work {
    pub(super) fn new(fresh: Option<ImageRange>, fresh_avoid: Vec<WorkerId>) -> Self {
        let waiting = fresh.map_or(0, ImageRange::len);
        Self { fresh, fresh_avoid, retries: BTreeMap::new(), deferred: BTreeMap::new(), waiting }
    }

    /// Images not leased.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Images not leased whose time has not come.
    pub(super) fn deferred(&self) -> u64 {
        self.deferred.values().map(|retry| retry.range.len()).sum()
    }

    /// When the first deferred range comes due.
    pub(super) fn due_ms(&self) -> Option<i64> {
        self.deferred.keys().next().map(|&(due, ..)| due)
    }

    /// The smallest index that is not leased.
    pub(super) fn first(&self) -> Option<u64> {
        let retry = self.retries.keys().next().map(|&(lo, _)| lo);
        let deferred = self.deferred.values().map(|retry| retry.range.lo()).min();
        [retry, deferred, self.fresh.map(ImageRange::lo)].into_iter().flatten().min()
    }

    /// Whether something may be leased now, were it only for images below `cap`.
    pub(super) fn is_open(&self, cap: u64) -> bool {
        let retry = self.retries.keys().next().map(|&(lo, _)| lo);
        [retry, self.fresh.map(ImageRange::lo)].into_iter().flatten().any(|lo| lo < cap)
    }

    /// Puts a range back; it waits for its time.
    pub(super) fn give_back(&mut self, retry: Retry) {
        let len = retry.range.len();
        let key = (retry.not_before_ms, retry.range.lo(), retry.row);
        if self.retries.contains_key(&(key.1, key.2)) || self.deferred.contains_key(&key) {
            return;
        }
        self.deferred.insert(key, retry);
        self.waiting += len;
    }

    /// Lets ranges through whose time has come.
    pub(super) fn ripen(&mut self, now_ms: i64) {
        while let Some(entry) = self.deferred.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let ((_, lo, row), retry) = entry.remove_entry();
            self.retries.insert((lo, row), retry);
        }
    }

    /// Ranges to be rendered again, in order, then the fresh ones; images from `cap` on wait for others.
    pub(super) fn open(&self, cap: u64) -> impl Iterator<Item = Open<'_>> {
        let below = move |range: ImageRange| ImageRange::new(range.lo(), range.hi().min(cap));
        let again = self.retries.values().filter_map(move |retry| {
            Some(Open {
                range: below(retry.range)?,
                end: retry.range.hi(),
                attempt: Attempt(retry.spent + 1),
                avoid: &retry.avoid,
                row: Some(retry.row),
            })
        });
        let fresh = self.fresh.and_then(|range| {
            Some(Open {
                range: below(range)?,
                end: range.hi(),
                attempt: Attempt(1),
                avoid: &self.fresh_avoid,
                row: None,
            })
        });
        again.chain(fresh)
    }

    /// Takes `range` off the front of where it was open.
    pub(super) fn take(&mut self, range: ImageRange, source: Source) {
        let taken = match source {
            Source::Fresh => self.take_fresh(range),
            Source::Retry { row, rest } => self.take_retry(range, row, rest),
            Source::Twin => false,
        };
        self.waiting -= if taken { range.len() } else { 0 };
    }

    fn take_fresh(&mut self, range: ImageRange) -> bool {
        let Some(fresh) = self.fresh.filter(|fresh| fresh.lo() == range.lo()) else { return false };
        self.fresh = fresh.take(range.len()).1;
        true
    }

    fn take_retry(&mut self, range: ImageRange, row: i64, rest: Option<ImageRange>) -> bool {
        let Some(retry) = self.retries.remove(&(range.lo(), row)) else { return false };
        if let Some(rest) = rest {
            self.retries.insert((rest.lo(), row), Retry { range: rest, ..retry });
        }
        true
    }

    /// Puts back what was taken last and not leased after all.
    pub(super) fn untake(&mut self, range: ImageRange, source: Source, retry: Retry) {
        match source {
            Source::Fresh => {
                let hi = self.fresh.map_or(range.hi(), ImageRange::hi);
                self.fresh = ImageRange::new(range.lo(), hi);
            }
            Source::Retry { row, .. } => {
                let behind = self.retries.remove(&(range.hi(), row));
                let hi = behind.map_or(range.hi(), |rest| rest.range.hi());
                let whole = ImageRange::new(range.lo(), hi).unwrap_or(range);
                self.retries.insert((range.lo(), row), Retry { range: whole, ..retry });
            }
            Source::Twin => return,
        }
        self.waiting += range.len();
    }

    /// Takes images out that are settled without being leased: stored ranges that hold any of them go
    /// whole, and of fresh images those at the front.
    pub(super) fn skip(&mut self, skipped: ImageRange) {
        let meets = |range: ImageRange| range.lo() < skipped.hi() && skipped.lo() < range.hi();
        self.retries.retain(|_, retry| !meets(retry.range));
        self.deferred.retain(|_, retry| !meets(retry.range));
        if let Some(fresh) = self.fresh.filter(|fresh| skipped.contains(fresh.lo())) {
            self.fresh = ImageRange::new(skipped.hi().min(fresh.hi()), fresh.hi());
        }
        let again = self.retries.values().chain(self.deferred.values());
        self.waiting =
            again.map(|retry| retry.range.len()).sum::<u64>() + self.fresh.map_or(0, ImageRange::len);
    }
}
