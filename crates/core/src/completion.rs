//! What a completion is worth: the fence decides, never a clock.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::{NumericClass, PixelDigest, RecipeDigest};
use crate::id::{Attempt, Epoch, LeaseId, WorkerId};
use crate::limits;
use crate::range::ImageRange;

/// What a worker must show to complete a lease: all three must match the stored lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The lease.
    pub lease: LeaseId,
    /// The attempt that the lease was granted for.
    pub attempt: Attempt,
    /// The epoch in which it was granted.
    pub epoch: Epoch,
}

/// How one image's result was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reception {
    /// The lease held and the image is new.
    Accepted,
    /// The image was there already, with the same pixels: a repeat, or a free verification.
    Repeated,
    /// The lease is gone and the image is not there: somebody else holds or will get it.
    Stale,
    /// The image was there already with other pixels, for the same recipe in the same numeric class.
    /// The first stays; a person must look.
    Divergent,
}

impl Reception {
    /// The name in logs and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::Stale => "stale",
            Self::Divergent => "divergent",
        }
    }
}

/// What identifies the outcome of one rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The recipe.
    pub recipe: RecipeDigest,
    /// The arithmetic.
    pub class: NumericClass,
    /// The pixels.
    pub pixels: PixelDigest,
}

/// Classifies one image of a completion.
///
/// `lease_held` says whether the fence matched a stored lease; `stored` is the result that was there
/// already. In another numeric class other pixels are no divergence: they count as a repeat, and the
/// first stays.
pub fn receive(lease_held: bool, stored: Option<Outcome>, offered: Outcome) -> Reception {
    match stored {
        None if lease_held => Reception::Accepted,
        None => Reception::Stale,
        Some(stored) if stored.pixels == offered.pixels => Reception::Repeated,
        Some(stored) if stored.recipe == offered.recipe && stored.class == offered.class => {
            Reception::Divergent
        }
        Some(_) => Reception::Repeated,
    }
}

/// Whose fault it was that images of a lease were not rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The images' own: spends an attempt.
    Task,
    /// The worker's (out of memory, driver): the worker is avoided, no attempt is spent.
    Worker,
    /// The surroundings' (model missing): tried again later, no attempt is spent.
    Environment,
    /// Nobody's: the worker hands work back because it was told to stop.
    HandedBack,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Task, Self::Worker, Self::Environment, Self::HandedBack];

    /// The class's name in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Worker => "worker",
            Self::Environment => "environment",
            Self::HandedBack => "handed_back",
        }
    }
}

/// Whose fault a failure counts as, and who has failed the range through a fault of its own by now.
///
/// `faulted` are the distinct workers that failed it so before. What fails on
/// [`limits::MAX_WORKER_FAULTS`] of them, as an image that fits into no worker's memory does, is no fault of
/// theirs: such a failure, and every later one of the kind, counts as the task's.
pub fn blame(
    class: Option<FailureClass>,
    worker: WorkerId,
    mut faulted: Vec<WorkerId>,
) -> (Option<FailureClass>, Vec<WorkerId>) {
    if class != Some(FailureClass::Worker) {
        return (class, faulted);
    }
    if !faulted.contains(&worker) && faulted.len() < limits::MAX_WORKER_FAULTS {
        faulted.push(worker);
    }
    let own = faulted.len() >= limits::MAX_WORKER_FAULTS;
    (if own { Some(FailureClass::Task) } else { class }, faulted)
}

/// What becomes of the images of a lease that have no result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aftermath {
    /// Ranges to be leased again, each with the attempts already spent on it.
    pub retry: Vec<(ImageRange, i32)>,
    /// Images given up.
    pub dead: Vec<ImageRange>,
}

/// Settles a lease of `range`, granted as `attempt`, of which `settled` images have results.
///
/// Attempts count from 1. A task's own failure spends one, and splits what is left so that a poison
/// image ends up alone; after [`limits::MAX_ATTEMPTS`] a single image is given up, while a longer
/// range goes on in halves. Every other cause gives the rest back whole, with the attempt unspent.
pub fn settle(
    range: ImageRange,
    attempt: Attempt,
    settled: &BTreeSet<u64>,
    failure: Option<FailureClass>,
) -> Aftermath {
    let mut aftermath = Aftermath::default();
    for rest in range.without(settled) {
        match failure {
            Some(FailureClass::Task) => spend(&mut aftermath, rest, attempt.0),
            _ => aftermath.retry.push((rest, attempt.0 - 1)),
        }
    }
    aftermath
}

fn spend(aftermath: &mut Aftermath, rest: ImageRange, spent: i32) {
    match rest.halves() {
        Some((left, right)) => aftermath.retry.extend([(left, spent), (right, spent)]),
        None if spent >= limits::MAX_ATTEMPTS => aftermath.dead.push(rest),
        None => aftermath.retry.push((rest, spent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome(pixels: &[u8], class: &[u8]) -> Outcome {
        Outcome {
            recipe: RecipeDigest::of_bytes(b"recipe"),
            class: NumericClass::of_bytes(class),
            pixels: PixelDigest::of_bytes(pixels),
        }
    }

    #[test]
    fn a_completion_without_its_lease_is_stale_and_a_repeat_is_told_from_a_divergence() {
        let (a, b) = (outcome(b"a", b"strict"), outcome(b"b", b"strict"));
        assert_eq!(receive(true, None, a), Reception::Accepted);
        assert_eq!(receive(false, None, a), Reception::Stale);
        assert_eq!(receive(false, Some(a), a), Reception::Repeated);
        assert_eq!(receive(true, Some(a), b), Reception::Divergent);
        assert_eq!(receive(true, Some(a), outcome(b"b", b"fast")), Reception::Repeated);
    }

    #[test]
    fn a_poison_image_ends_alone_among_the_dead_and_its_neighbours_live() {
        let poison = 5;
        let mut queue = vec![(ImageRange::new(0, 16).unwrap(), 0)];
        let (mut dead, mut done, mut grants) = (Vec::new(), BTreeSet::new(), 0);
        while let Some((range, spent)) = queue.pop() {
            grants += 1;
            let settled: BTreeSet<u64> = range.indices().take_while(|&index| index != poison).collect();
            let failure = range.contains(poison).then_some(FailureClass::Task);
            let aftermath = settle(range, Attempt(spent + 1), &settled, failure);
            done.extend(settled);
            queue.extend(aftermath.retry);
            dead.extend(aftermath.dead);
        }
        assert_eq!(dead, vec![ImageRange::new(poison, poison + 1).unwrap()]);
        assert_eq!(done.len(), 15);
        assert!(grants < 20, "{grants} grants");
    }

    fn worker(number: u128) -> WorkerId {
        WorkerId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_fault_of_three_distinct_workers_counts_as_the_tasks() {
        let mut faulted = Vec::new();
        for (number, class) in [
            (1, FailureClass::Worker),
            (1, FailureClass::Worker),
            (2, FailureClass::Worker),
            (2, FailureClass::Worker),
            (3, FailureClass::Task),
            (1, FailureClass::Task),
        ] {
            let (counted, after) = blame(Some(FailureClass::Worker), worker(number), faulted);
            assert_eq!(counted, Some(class), "worker {number}");
            faulted = after;
        }
        assert_eq!(faulted, [worker(1), worker(2), worker(3)]);
    }

    #[test]
    fn only_faults_of_workers_are_held_against_the_range() {
        for class in [None, Some(FailureClass::Environment), Some(FailureClass::HandedBack)] {
            assert_eq!(blame(class, worker(1), vec![worker(2)]), (class, vec![worker(2)]));
        }
        let task = Some(FailureClass::Task);
        assert_eq!(blame(task, worker(1), Vec::new()), (task, Vec::new()));
    }

    #[test]
    fn work_handed_back_spends_no_attempt() {
        let range = ImageRange::new(0, 4).unwrap();
        let aftermath = settle(range, Attempt(3), &BTreeSet::from([0]), Some(FailureClass::HandedBack));
        assert_eq!(aftermath.retry, vec![(ImageRange::new(1, 4).unwrap(), 2)]);
    }

    /// Grants `range` to one worker after another until nothing is left; images in `doomed` fit into no
    /// worker's memory. Answers what was rendered, what was given up, and the number of grants.
    fn exhaust(
        range: ImageRange,
        doomed: &BTreeSet<u64>,
        workers: u32,
    ) -> (BTreeSet<u64>, BTreeSet<u64>, u32) {
        let mut queue = vec![(range, 0, Vec::new())];
        let (mut done, mut dead, mut grants) = (BTreeSet::new(), BTreeSet::new(), 0_u32);
        while let Some((range, spent, faulted)) = queue.pop() {
            grants += 1;
            let settled: BTreeSet<u64> =
                range.indices().take_while(|index| !doomed.contains(index)).collect();
            let class = ((settled.len() as u64) < range.len()).then_some(FailureClass::Worker);
            let (class, faulted) = blame(class, worker(u128::from(grants % workers)), faulted);
            let aftermath = settle(range, Attempt(spent + 1), &settled, class);
            done.extend(settled);
            queue.extend(aftermath.retry.into_iter().map(|(range, spent)| (range, spent, faulted.clone())));
            dead.extend(aftermath.dead.iter().flat_map(|range| range.indices()));
        }
        (done, dead, grants)
    }

    proptest! {
        #[test]
        fn what_no_worker_can_render_ends_among_the_dead_and_all_else_is_rendered(
            len in 1u64..64, doomed in proptest::collection::btree_set(0u64..64, 0..6), workers in 3u32..8
        ) {
            let range = ImageRange::new(0, len).unwrap();
            let doomed: BTreeSet<u64> = doomed.into_iter().filter(|&index| index < len).collect();
            let (done, dead, grants) = exhaust(range, &doomed, workers);
            prop_assert_eq!(&dead, &doomed);
            prop_assert_eq!(done, range.indices().filter(|index| !doomed.contains(index)).collect::<BTreeSet<_>>());
            prop_assert!(grants < 1000, "{} grants", grants);
        }

        #[test]
        fn settling_loses_no_image_and_counts_none_twice(
            lo in 0u64..40, len in 1u64..40, attempt in 1i32..5,
            settled in proptest::collection::btree_set(0u64..80, 0..30), class in 0usize..5
        ) {
            let range = ImageRange::new(lo, lo + len).unwrap();
            let aftermath = settle(range, Attempt(attempt), &settled, FailureClass::ALL.get(class).copied());
            let mut seen: Vec<u64> = aftermath.retry.iter().flat_map(|(range, _)| range.indices()).collect();
            seen.extend(aftermath.dead.iter().flat_map(|range| range.indices()));
            seen.extend(settled.range(range.lo()..range.hi()));
            seen.sort_unstable();
            prop_assert_eq!(seen, range.indices().collect::<Vec<_>>());
        }
    }
}
