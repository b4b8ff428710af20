//! Coordinators, workers and a store over a network that delays, doubles, reorders and loses, in one thread
//! and virtual time: what core decides, held against the promises in thousands of histories.
//!
//! A history follows from its seed alone. What must hold is checked after every step of the store, and when
//! everything has calmed down. To show that the checks can fail, the same histories are played with one
//! guard taken away.

mod adapter;
mod coordinator;
mod message;
mod store;
mod worker;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use store::Guards;
use world::World;

/// Histories that are played.
const SEEDS: u64 = 10_000;
/// Histories within which a missing guard must be found.
const FEW: u64 = 50;

/// Plays one history; what it did wrong is an error.
fn play(seed: u64, guards: Guards) -> Result<u64, String> {
    World::new(seed, guards, false).play().map_err(|wrong| {
        let trace = World::new(seed, guards, true).told();
        format!("seed {seed}: {wrong}\n{trace}")
    })
}

/// The first of `seeds` histories that goes wrong.
fn first_wrong(seeds: u64, guards: Guards) -> Option<String> {
    (0..seeds).find_map(|seed| play(seed, guards).err())
}

#[test]
fn ten_thousand_histories_keep_every_promise() {
    let (next, wrong) = (AtomicU64::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        while wrong.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            if let Err(why) = play(seed, Guards::All) {
                wrong.lock().unwrap().get_or_insert(why);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    if let Some(why) = wrong.into_inner().unwrap() {
        panic!("{why}");
    }
}

#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in [1, 7, 99] {
        assert_eq!(play(seed, Guards::All), play(seed, Guards::All));
    }
    assert_ne!(play(1, Guards::All), play(2, Guards::All));
}

#[test]
fn a_store_without_the_leases_fence_is_found_out() {
    let wrong = first_wrong(FEW, Guards::WithoutFence).expect("a completion of a lost lease counts");
    assert!(wrong.contains("after its lease was over"), "{wrong}");
}

#[test]
fn a_store_without_the_epoch_is_found_out() {
    let wrong = first_wrong(FEW, Guards::WithoutEpoch).expect("a deposed coordinator writes");
    assert!(wrong.contains("deposed"), "{wrong}");
}

#[test]
fn a_coordinator_that_acknowledges_too_early_is_found_out() {
    let wrong = first_wrong(FEW, Guards::EarlyAnswer).expect("an acknowledged image is not stored");
    assert!(wrong.contains("acknowledged"), "{wrong}");
}
