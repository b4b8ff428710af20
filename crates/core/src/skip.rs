//! Giving images up on purpose: what becomes of those that wait.

use crate::range::ImageRange;

/// Images that wait, and what is to be taken from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Images given up, in order.
    pub dead: Vec<ImageRange>,
    /// What goes on waiting, in order.
    pub rest: Vec<ImageRange>,
}

/// Takes the images of `wanted` out of a range that waits.
pub fn skip(waiting: ImageRange, wanted: &[ImageRange]) -> Skipped {
    let mut wanted: Vec<ImageRange> = wanted.to_vec();
    wanted.sort_unstable();
    let mut skipped = Skipped::default();
    let mut lo = waiting.lo();
    for range in wanted {
        let (from, to) = (range.lo().max(lo), range.hi().min(waiting.hi()));
        if let Some(dead) = ImageRange::new(from, to) {
            skipped.rest.extend(ImageRange::new(lo, from));
            skipped.dead.push(dead);
            lo = to;
        }
    }
    skipped.rest.extend(ImageRange::new(lo, waiting.hi()));
    skipped
}

/// Indices in ascending order as ranges.
pub fn ranges_of(indices: &[u64]) -> Vec<ImageRange> {
    let mut ranges: Vec<ImageRange> = Vec::new();
    for &index in indices {
        let joined = ranges.last().filter(|last| last.hi() == index).map(|last| last.lo());
        if joined.is_some() {
            ranges.pop();
        }
        ranges.extend(ImageRange::new(joined.unwrap_or(index), index + 1));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn indices(ranges: &[ImageRange]) -> Vec<u64> {
        ranges.iter().flat_map(|range| range.indices()).collect()
    }

    proptest! {
        #[test]
        fn what_is_skipped_was_wanted_and_nothing_is_lost(
            lo in 0u64..20, len in 1u64..30, wanted in proptest::collection::vec((0u64..60, 1u64..10), 0..6)
        ) {
            let waiting = ImageRange::new(lo, lo + len).unwrap();
            let wanted: Vec<_> = wanted.iter().map(|&(lo, len)| ImageRange::new(lo, lo + len).unwrap()).collect();
            let skipped = skip(waiting, &wanted);
            let asked: BTreeSet<u64> = indices(&wanted).into_iter().collect();
            let dead: Vec<u64> = waiting.indices().filter(|index| asked.contains(index)).collect();
            let rest: Vec<u64> = waiting.indices().filter(|index| !asked.contains(index)).collect();
            prop_assert_eq!(indices(&skipped.dead), dead);
            prop_assert_eq!(indices(&skipped.rest), rest);
        }

        #[test]
        fn ranges_hold_the_indices_that_they_were_made_of(set in proptest::collection::btree_set(0u64..80, 0..30)) {
            let given: Vec<u64> = set.into_iter().collect();
            let ranges = ranges_of(&given);
            prop_assert_eq!(indices(&ranges), given);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].hi() < pair[1].lo()));
        }
    }
}
