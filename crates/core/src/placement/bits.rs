//! A set of small numbers, one bit each: which tenants have work in a class, without looking at the work.

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Takes in all of `other`.
    pub(super) fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(own, word)| *own |= word);
    }

    /// The numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| at * 64 + word.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_hold_what_a_set_holds(
            added in proptest::collection::vec(0usize..300, 0..60), removed in proptest::collection::vec(0usize..300, 0..60)
        ) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for number in added {
                bits.insert(number);
                set.insert(number);
            }
            for number in removed {
                bits.remove(number);
                set.remove(&number);
            }
            prop_assert!(bits.iter().eq(set.iter().copied()));
            prop_assert!((0..320).all(|number| bits.contains(number) == set.contains(&number)));
        }
    }
}
