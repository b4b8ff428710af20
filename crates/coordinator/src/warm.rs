//! Small caches of what never changes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Most entries of one cache.
const WARM: usize = 4096;

/// A map that is emptied when it is full: what is warm comes back soon.
#[derive(Debug)]
pub(crate) struct Warm<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Warm<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Warm<K, V> {
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= WARM {
            map.clear();
        }
        map.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_holds_no_more_than_its_limit() {
        let warm = Warm::default();
        (0..3 * WARM).for_each(|n| warm.put(n, n));
        assert_eq!(warm.get(&(3 * WARM - 1)), Some(3 * WARM - 1));
        assert!(warm.0.lock().unwrap().len() <= WARM);
    }
}
