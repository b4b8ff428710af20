use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::digest::AdapterDigest;
use crate::id::{JobId, WorkerId};
use crate::range::ImageRange;

const TARGET_MS: u64 = 20_000;

fn job(n: u128) -> JobId {
    JobId::from_uuid(Uuid::from_u128(n))
}

fn worker(n: u128) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(n))
}

fn device(n: u128) -> DeviceId {
    DeviceId { worker: worker(n), device: 0 }
}

fn group(model: &str) -> Group {
    Group { model: ModelDigest::of_bytes(model.as_bytes()), numerics: Numerics::Strict }
}

fn range(lo: u64, hi: u64) -> ImageRange {
    ImageRange::new(lo, hi).unwrap()
}

fn queued(id: u128, priority: i32, created_at_ms: i64, total: u64) -> QueuedJob {
    QueuedJob {
        id: job(id),
        group: group("m"),
        needs: Vec::new(),
        priority,
        created_at_ms,
        active: true,
        fresh: ImageRange::new(0, total),
        fresh_avoid: Vec::new(),
        retries: Vec::new(),
    }
}

fn retry(row: i64, lo: u64, hi: u64, avoid: Vec<WorkerId>) -> Retry {
    Retry { row, range: range(lo, hi), spent: 1, not_before_ms: 0, avoid }
}

/// Workers 1 to `n`, one device each, all with model `m`.
fn fleet(n: u128) -> Fleet {
    let mut fleet = Fleet::default();
    (1..=n).for_each(|i| fleet.join(worker(i), [(0, BTreeSet::from([group("m")]))], BTreeSet::new()));
    fleet
}

fn queue(jobs: impl IntoIterator<Item = QueuedJob>) -> Queue {
    let mut queue = Queue::default();
    jobs.into_iter().for_each(|job| queue.insert(job));
    queue
}

fn next(queue: &Queue, fleet: &Fleet, n: u128) -> Option<Pick> {
    queue.choose(device(n), fleet, 0, TARGET_MS).ok()
}

#[test]
fn higher_priority_goes_first_and_then_the_older_job() {
    let mut queue = queue([queued(1, 0, 10, 1), queued(2, 5, 30, 1), queued(3, 5, 20, 1)]);
    let mut order = Vec::new();
    while let Some(pick) = next(&queue, &fleet(1), 1) {
        order.push(pick.job);
        queue.take(&pick);
    }
    assert_eq!(order, [job(3), job(2), job(1)]);
}

#[test]
fn ranges_to_be_rendered_again_go_before_fresh_ones_of_the_same_job() {
    let mut waiting = queued(1, 0, 0, 10);
    waiting.fresh = Some(range(5, 10));
    waiting.retries = vec![retry(7, 2, 3, Vec::new())];
    let pick = next(&queue([waiting]), &fleet(1), 1).unwrap();
    assert_eq!((pick.range, pick.attempt.0), (range(2, 3), 2));
    assert_eq!(pick.source, Source::Retry { row: 7, rest: None });
}

#[test]
fn a_device_gets_no_job_of_a_model_or_arithmetic_it_does_not_offer() {
    let mut other = queued(1, 0, 0, 1);
    other.group = group("other");
    let mut fast = queued(2, 0, 0, 1);
    fast.group.numerics = Numerics::Fast;
    let queue = queue([other, fast]);
    let why = queue.choose(device(1), &fleet(1), 0, TARGET_MS).unwrap_err();
    assert_eq!(why, NoWork { groups: 1, ..NoWork::default() });
}

#[test]
fn an_avoided_worker_is_passed_over_until_no_other_is_there() {
    let mut waiting = queued(1, 0, 0, 1);
    waiting.fresh = None;
    waiting.retries = vec![retry(1, 0, 1, vec![worker(1)])];
    let queue = queue([waiting]);
    let mut fleet = fleet(2);
    let why = queue.choose(device(1), &fleet, 0, TARGET_MS).unwrap_err();
    assert_eq!((why.jobs, why.avoided), (1, 1));
    assert!(next(&queue, &fleet, 2).is_some());
    fleet.stop(worker(2));
    assert!(next(&queue, &fleet, 1).is_some(), "forgiven while the other drains");
    fleet.leave(worker(2));
    assert!(next(&queue, &fleet, 1).is_some(), "forgiven when the other is gone");
}

#[test]
fn a_draining_worker_gets_nothing() {
    let queue = queue([queued(1, 0, 0, 1)]);
    let mut fleet = fleet(1);
    fleet.stop(worker(1));
    assert_eq!(next(&queue, &fleet, 1), None);
}

#[test]
fn a_deferred_range_waits_for_its_time_and_says_when() {
    let mut waiting = queued(1, 0, 0, 1);
    waiting.fresh = None;
    waiting.retries = vec![Retry { not_before_ms: 500, ..retry(1, 0, 1, Vec::new()) }];
    let queue = queue([waiting]);
    let why = queue.choose(device(1), &fleet(1), 499, TARGET_MS).unwrap_err();
    assert_eq!((why.deferred, why.due_ms), (1, Some(500)));
    assert!(queue.choose(device(1), &fleet(1), 500, TARGET_MS).is_ok());
}

#[test]
fn a_paused_job_keeps_its_place_and_a_removed_one_is_gone() {
    let mut queue = queue([queued(1, 0, 0, 1)]);
    queue.set_active(job(1), false);
    assert_eq!(next(&queue, &fleet(1), 1), None);
    queue.set_active(job(1), true);
    assert!(next(&queue, &fleet(1), 1).is_some());
    queue.remove(job(1));
    assert_eq!(next(&queue, &fleet(1), 1), None);
}

#[test]
fn chunks_grow_with_measured_speed_and_shrink_toward_the_end() {
    let mut queue = queue([queued(1, 0, 0, 200)]);
    let mut fleet = fleet(2);
    let first = next(&queue, &fleet, 1).unwrap();
    assert_eq!(first.range.len(), 1);
    fleet.measured(device(1), job(1), group("m"), 500.0);
    let mut lengths = Vec::new();
    while let Some(pick) = next(&queue, &fleet, 1) {
        lengths.push(pick.range.len());
        queue.take(&pick);
    }
    assert_eq!(lengths[0], 40);
    assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
    assert_eq!(lengths.last(), Some(&1));
}

#[test]
fn a_worker_that_joins_again_is_counted_once_and_keeps_its_speed() {
    let mut fleet = fleet(1);
    fleet.measured(device(1), job(1), group("m"), 1000.0);
    fleet.join(worker(1), [(0, BTreeSet::from([group("m")]))], BTreeSet::new());
    let pick = next(&queue([queued(1, 0, 0, 20)]), &fleet, 1).unwrap();
    assert_eq!(pick.range.len(), 10);
}

#[test]
fn what_could_not_be_leased_goes_back_where_it_was() {
    let mut waiting = queued(1, 0, 0, 100);
    waiting.fresh = Some(range(40, 100));
    waiting.retries = vec![retry(7, 0, 30, vec![worker(9)])];
    let mut queue = queue([waiting]);
    let mut fleet = fleet(1);
    fleet.measured(device(1), job(1), group("m"), 2000.0);
    let mut picks = Vec::new();
    while let Some(pick) = next(&queue, &fleet, 1).filter(|pick| pick.range.lo() < 80) {
        queue.take(&pick);
        picks.push(pick);
    }
    assert!(picks.iter().filter(|pick| pick.source == Source::Fresh).count() > 1);
    assert!(picks.iter().filter(|pick| pick.source != Source::Fresh).count() > 1);
    picks.iter().rev().for_each(|pick| queue.put_back(pick));
    assert_eq!(queue.waiting(job(1)), 90);
    for pick in picks {
        assert_eq!(next(&queue, &fleet, 1).as_ref(), Some(&pick));
        queue.take(&pick);
    }
}

fn adapter(name: &str) -> AdapterDigest {
    AdapterDigest::of_bytes(name.as_bytes())
}

/// Worker 1 without adapters, worker 2 with `a` and worker 3 with `a` and `b`.
fn fleet_with_adapters() -> Fleet {
    let mut fleet = fleet(1);
    let having = |names: &[&str]| names.iter().map(|name| adapter(name)).collect();
    fleet.join(worker(2), [(0, BTreeSet::from([group("m")]))], having(&["a"]));
    fleet.join(worker(3), [(0, BTreeSet::from([group("m")]))], having(&["a", "b"]));
    fleet
}

#[test]
fn a_job_goes_only_to_workers_that_have_every_adapter_it_needs() {
    let needy = QueuedJob { needs: vec![adapter("a"), adapter("b")], ..queued(1, 9, 0, 1) };
    let queue = queue([needy, queued(2, 0, 0, 1)]);
    let fleet = fleet_with_adapters();
    for (n, expected) in [(1, job(2)), (2, job(2)), (3, job(1))] {
        assert_eq!(next(&queue, &fleet, n).map(|pick| pick.job), Some(expected), "worker {n}");
    }
    assert_eq!(fleet.offers(group("m"), &[adapter("a")]), 2);
    assert_eq!(fleet.offers(group("m"), &[adapter("c")]), 0);
}

#[test]
fn a_device_without_the_adapters_says_so_and_gets_them_when_it_joins_again() {
    let queue = queue([QueuedJob { needs: vec![adapter("a")], ..queued(1, 0, 0, 1) }]);
    let mut fleet = fleet(1);
    let why = queue.choose(device(1), &fleet, 0, TARGET_MS).unwrap_err();
    assert_eq!((why.jobs, why.lacking), (1, 1));
    fleet.join(worker(1), [(0, BTreeSet::from([group("m")]))], BTreeSet::from([adapter("a")]));
    assert!(next(&queue, &fleet, 1).is_some());
}

#[test]
fn an_avoided_worker_is_forgiven_when_no_other_has_the_adapters() {
    let mut waiting = QueuedJob { needs: vec![adapter("b")], ..queued(1, 0, 0, 1) };
    waiting.fresh_avoid = vec![worker(3)];
    let queue = queue([waiting]);
    assert!(next(&queue, &fleet_with_adapters(), 3).is_some());
}

/// One thing that happens to the farm.
#[derive(Debug, Clone)]
enum Step {
    /// A device asks for work.
    Ask(u128),
    /// The nth lease is completed.
    Complete(usize),
    /// The nth lease expires: its range comes back and avoids its worker.
    Expire(usize),
    Pause(u128, bool),
    Stop(u128),
    Join(u128),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u128..4).prop_map(Step::Ask),
        3 => any::<usize>().prop_map(Step::Complete),
        2 => any::<usize>().prop_map(Step::Expire),
        1 => (0u128..3, any::<bool>()).prop_map(|(job, active)| Step::Pause(job, active)),
        1 => (1u128..4).prop_map(Step::Stop),
        1 => (1u128..4).prop_map(Step::Join),
    ]
}

/// A small farm that notes who has which image.
struct Farm {
    queue: Queue,
    fleet: Fleet,
    paused: BTreeSet<JobId>,
    leases: Vec<Pick>,
    done: BTreeMap<JobId, BTreeSet<u64>>,
    rows: i64,
}

impl Farm {
    fn new(totals: &[(i32, u64)]) -> Self {
        let jobs = totals
            .iter()
            .zip(0u8..)
            .map(|(&(priority, total), id)| queued(u128::from(id), priority, i64::from(id), total));
        Self {
            queue: queue(jobs),
            fleet: fleet(3),
            paused: BTreeSet::new(),
            leases: Vec::new(),
            done: BTreeMap::new(),
            rows: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Ask(n) => self.ask(n),
            Step::Complete(n) if !self.leases.is_empty() => {
                let lease = self.leases.remove(n % self.leases.len());
                self.fleet.measured(lease.device, lease.job, group("m"), 4000.0);
                self.done.entry(lease.job).or_default().extend(lease.range.indices());
            }
            Step::Expire(n) if !self.leases.is_empty() => {
                let lease = self.leases.remove(n % self.leases.len());
                self.rows += 1;
                let avoid = [lease.avoid, vec![lease.device.worker]].concat();
                let back =
                    Retry { avoid, ..retry(self.rows, lease.range.lo(), lease.range.hi(), Vec::new()) };
                self.queue.give_back(lease.job, back);
            }
            Step::Complete(_) | Step::Expire(_) => {}
            Step::Pause(n, active) => {
                self.queue.set_active(job(n), active);
                if active {
                    self.paused.remove(&job(n))
                } else {
                    self.paused.insert(job(n))
                };
            }
            Step::Stop(n) => self.fleet.stop(worker(n)),
            Step::Join(n) => self.fleet.join(worker(n), [(0, BTreeSet::from([group("m")]))], BTreeSet::new()),
        }
    }

    fn ask(&mut self, n: u128) {
        if let Some(pick) = next(&self.queue, &self.fleet, n) {
            assert!(!self.paused.contains(&pick.job), "a paused job was leased");
            for index in pick.range.indices() {
                assert!(!self.is_out(pick.job, index), "image {index} was granted twice");
            }
            self.queue.take(&pick);
            self.leases.push(pick);
        }
    }

    fn is_out(&self, job: JobId, index: u64) -> bool {
        let leased = self.leases.iter().any(|lease| lease.job == job && lease.range.contains(index));
        leased || self.done.get(&job).is_some_and(|done| done.contains(&index))
    }

    /// Everybody comes back and works until nothing is left.
    fn finish(&mut self) {
        (0..3).for_each(|n| self.apply(Step::Pause(n, true)));
        (1..4).for_each(|n| self.apply(Step::Join(n)));
        loop {
            (1..4).for_each(|n| self.ask(n));
            if self.leases.is_empty() {
                return;
            }
            self.apply(Step::Complete(0));
        }
    }
}

proptest! {
    #[test]
    fn no_image_is_granted_twice_and_none_is_forgotten(
        totals in proptest::collection::vec((-2i32..3, 1u64..60), 3),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut farm = Farm::new(&totals);
        steps.into_iter().for_each(|step| farm.apply(step));
        farm.finish();
        for (id, &(_, total)) in (0u128..).zip(&totals) {
            prop_assert_eq!(farm.done[&job(id)].len() as u64, total);
            prop_assert_eq!(farm.queue.waiting(job(id)), 0);
        }
    }

    #[test]
    fn the_best_open_job_is_always_the_one_that_is_chosen(
        jobs in proptest::collection::vec((-3i32..4, 0i64..5, any::<bool>()), 1..20)
    ) {
        let all = jobs.iter().zip(0u8..).map(|(&(priority, created, active), id)| QueuedJob {
            active,
            ..queued(u128::from(id), priority, created, 5)
        });
        let best = all.clone().filter(|job| job.active).min_by_key(|job| {
            (std::cmp::Reverse(job.priority), job.created_at_ms, job.id)
        });
        let chosen = next(&queue(all), &fleet(2), 1).map(|pick| pick.job);
        prop_assert_eq!(chosen, best.map(|job| job.id));
    }
}
