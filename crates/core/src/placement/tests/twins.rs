//! Late leases are rendered a second time.

use super::*;

/// Worker 1 holds the only image of a job; the farm's time is 0.
fn one_out() -> (Queue, Pick) {
    let mut queue = queue(3, &["m"], [queued(1, 0, 1)]);
    let pick = grant_at(&mut queue, 1, 0).unwrap();
    (queue, pick)
}

const LATE_MS: i64 = 200_000;

#[test]
fn a_late_lease_is_rendered_a_second_time_by_another_worker_and_once_only() {
    let (mut queue, first) = one_out();
    let early = queue.choose(device(2), 5_000, TARGET_MS).unwrap_err();
    let due = early.due_ms.expect("it says when the lease is late");
    assert_eq!(next_at(&mut queue, 1, LATE_MS), None, "its own worker is no other");
    let twin = grant_at(&mut queue, 2, due).unwrap();
    assert_eq!((twin.range, twin.attempt, twin.source), (first.range, first.attempt, Source::Twin));
    assert_eq!(twin.avoid, [worker(1)]);
    assert_eq!(next_at(&mut queue, 3, LATE_MS), None);
}

#[test]
fn no_lease_is_late_while_its_job_has_something_to_lease() {
    let mut queue = queue(2, &["m"], [queued(1, 0, 2)]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    let second = grant_at(&mut queue, 2, LATE_MS).unwrap();
    assert_eq!((second.source, second.range.lo()), (Source::Fresh, first.range.hi()));
    assert_eq!(grant_at(&mut queue, 2, LATE_MS).unwrap().source, Source::Twin);
}

#[test]
fn when_either_of_two_ends_the_other_stands_alone_and_gets_no_twin_again() {
    for first_to_end in [1, 2] {
        let (mut queue, primary) = one_out();
        let twin = grant_at(&mut queue, 2, LATE_MS).unwrap();
        let (ended, stays) = if first_to_end == 1 { (&primary, &twin) } else { (&twin, &primary) };
        fail(&mut queue, ended);
        assert_eq!(next_at(&mut queue, 3, 10 * LATE_MS), None);
        fail(&mut queue, stays);
        queue.give_back(job(1), retry(1, 0, 1, Vec::new()));
        assert!(grant_at(&mut queue, 1, 10 * LATE_MS).is_some_and(|pick| pick.source != Source::Twin));
    }
}

#[test]
fn a_twin_that_could_not_be_leased_leaves_the_first_as_it_was() {
    let (mut queue, primary) = one_out();
    let twin = next_at(&mut queue, 2, LATE_MS).unwrap();
    queue.take(&twin);
    queue.put_back(&twin);
    assert_eq!(queue.waiting(job(1)), 0);
    end(&mut queue, &primary, 1);
    assert!(queue.is_idle());
}

#[test]
fn a_lease_from_before_can_be_late_and_a_pair_from_before_is_not_tripled() {
    let leased = |n, twin| Leased {
        job: job(1),
        range: range(0, 1),
        device: device(n),
        attempt: crate::id::Attempt(1),
        avoid: Vec::new(),
        twin,
        twinned: false,
    };
    let waiting = || QueuedJob { fresh: None, ..queued(1, 0, 1) };
    let mut alone = queue(3, &["m"], [waiting()]);
    alone.stands(leased(1, false));
    assert!(next_at(&mut alone, 3, LATE_MS).is_some());
    for order in [[1, 2], [2, 1]] {
        let mut pair = queue(3, &["m"], [waiting()]);
        order.into_iter().for_each(|n| pair.stands(leased(n, n == 2)));
        assert_eq!(next_at(&mut pair, 3, LATE_MS), None);
    }
}
