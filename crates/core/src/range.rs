//! Ranges of image indices: the unit of lease, retry and completion.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The images `lo..hi` of a job; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageRange {
    lo: u64,
    hi: u64,
}

impl ImageRange {
    /// The range from `lo` up to but without `hi`; `None` if that is empty.
    pub const fn new(lo: u64, hi: u64) -> Option<Self> {
        if lo < hi { Some(Self { lo, hi }) } else { None }
    }

    /// First index.
    pub const fn lo(self) -> u64 {
        self.lo
    }

    /// One past the last index.
    pub const fn hi(self) -> u64 {
        self.hi
    }

    /// Number of images, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u64 {
        self.hi - self.lo
    }

    /// Whether `index` lies inside.
    pub const fn contains(self, index: u64) -> bool {
        self.lo <= index && index < self.hi
    }

    /// Every index, in order.
    pub fn indices(self) -> std::ops::Range<u64> {
        self.lo..self.hi
    }

    /// Takes at most `most` images off the front: what was taken, and what is left.
    pub fn take(self, most: u64) -> (Self, Option<Self>) {
        let cut = self.hi.min(self.lo.saturating_add(most.max(1)));
        (Self { lo: self.lo, hi: cut }, Self::new(cut, self.hi))
    }

    /// Splits into halves, for narrowing down a range that fails; a single image has no halves.
    pub fn halves(self) -> Option<(Self, Self)> {
        let middle = self.lo + self.len() / 2;
        Some((Self::new(self.lo, middle)?, Self::new(middle, self.hi)?))
    }

    /// The parts of this range that hold none of `settled`, in order.
    pub fn without(self, settled: &BTreeSet<u64>) -> Vec<Self> {
        let mut rest = Vec::new();
        let mut lo = self.lo;
        for &index in settled.range(self.lo..self.hi) {
            rest.extend(Self::new(lo, index));
            lo = index + 1;
        }
        rest.extend(Self::new(lo, self.hi));
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_left_and_what_is_settled_make_up_the_range(
            lo in 0u64..50, len in 1u64..50, settled in proptest::collection::btree_set(0u64..120, 0..40)
        ) {
            let range = ImageRange::new(lo, lo + len).unwrap();
            let left: BTreeSet<u64> = range.without(&settled).into_iter().flat_map(ImageRange::indices).collect();
            let expected: BTreeSet<u64> = range.indices().filter(|index| !settled.contains(index)).collect();
            prop_assert_eq!(left, expected);
        }

        #[test]
        fn taking_loses_no_image(lo in 0u64..50, len in 1u64..50, most in 0u64..60) {
            let range = ImageRange::new(lo, lo + len).unwrap();
            let (taken, rest) = range.take(most);
            prop_assert_eq!(taken.len() + rest.map_or(0, ImageRange::len), len);
            prop_assert_eq!(taken.lo(), lo);
            prop_assert!(rest.is_none_or(|rest| rest.lo() == taken.hi()));
        }

        #[test]
        fn halves_make_up_the_whole(lo in 0u64..50, len in 2u64..50) {
            let range = ImageRange::new(lo, lo + len).unwrap();
            let (left, right) = range.halves().unwrap();
            prop_assert_eq!((left.lo(), left.hi(), right.hi()), (lo, right.lo(), lo + len));
        }
    }

    #[test]
    fn an_empty_range_cannot_be_made() {
        assert_eq!(ImageRange::new(3, 3), None);
        assert_eq!(ImageRange::new(4, 3), None);
        assert_eq!(ImageRange::new(3, 4).unwrap().halves(), None);
    }
}
