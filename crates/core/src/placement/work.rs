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
}

/// Images of a job that are not leased.
#[derive(Debug)]
pub(super) struct Work {
    fresh: Option<ImageRange>,
    /// Workers that fresh images pass over.
    fresh_avoid: Vec<WorkerId>,
    /// By first image, then row.
    retries: BTreeMap<(u64, i64), Retry>,
    waiting: u64,
}

/// A range that could be leased, whole.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    pub(super) range: ImageRange,
    pub(super) attempt: Attempt,
    pub(super) avoid: &'a [WorkerId],
    pub(super) not_before_ms: i64,
    /// Absent for fresh images.
    pub(super) row: Option<i64>,
}

impl Work {
    pub(super) fn new(fresh: Option<ImageRange>, fresh_avoid: Vec<WorkerId>, retries: Vec<Retry>) -> Self {
        let waiting = fresh.map_or(0, ImageRange::len);
        let mut work = Self { fresh, fresh_avoid, retries: BTreeMap::new(), waiting };
        retries.into_iter().for_each(|retry| work.give_back(retry));
        work
    }

    /// Images not leased.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(super) fn give_back(&mut self, retry: Retry) {
        let len = retry.range.len();
        if self.retries.insert((retry.range.lo(), retry.row), retry).is_none() {
            self.waiting += len;
        }
    }

    /// Ranges to be rendered again, in order, then the fresh ones.
    pub(super) fn offers(&self) -> impl Iterator<Item = Offer<'_>> {
        let again = self.retries.values().map(|retry| Offer {
            range: retry.range,
            attempt: Attempt(retry.spent + 1),
            avoid: &retry.avoid,
            not_before_ms: retry.not_before_ms,
            row: Some(retry.row),
        });
        again.chain(self.fresh.map(|range| Offer {
            range,
            attempt: Attempt(1),
            avoid: &self.fresh_avoid,
            not_before_ms: i64::MIN,
            row: None,
        }))
    }

    /// Takes `range` off the front of where it was offered.
    pub(super) fn take(&mut self, range: ImageRange, source: Source) {
        let taken = match source {
            Source::Fresh => self.take_fresh(range),
            Source::Retry { row, rest } => self.take_retry(range, row, rest),
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
        }
        self.waiting += range.len();
    }
}
