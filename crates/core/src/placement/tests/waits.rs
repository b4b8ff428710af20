//! What keeps a job waiting although devices are free: its time, a pause, other jobs, and deadlines that
//! end the waiting.

use super::*;

fn after(ids: &[u128], job_: QueuedJob) -> QueuedJob {
    QueuedJob { terms: JobTerms { after: ids.iter().map(|&id| job(id)).collect(), ..job_.terms }, ..job_ }
}

fn after_images(ids: &[u128], job_: QueuedJob) -> QueuedJob {
    QueuedJob {
        terms: JobTerms { after_images: ids.iter().map(|&id| job(id)).collect(), ..job_.terms },
        ..job_
    }
}

#[test]
fn a_deferred_range_sleeps_until_its_time_and_says_when() {
    let mut waiting = queued(1, 0, 1);
    waiting.fresh = None;
    waiting.retries = vec![Retry { not_before_ms: 500, ..retry(1, 0, 1, Vec::new()) }];
    let mut queue = queue(1, &["m"], [waiting]);
    queue.wake(499);
    assert!(queue.is_idle());
    assert_eq!(queue.due_ms(), Some(500));
    assert!(next_at(&mut queue, 1, 500).is_some());
}

#[test]
fn a_paused_job_keeps_its_place_and_a_cancelled_one_is_gone() {
    let mut queue = queue(1, &["m"], [queued(1, 0, 1)]);
    queue.set_active(job(1), false, None);
    assert_eq!(next(&mut queue, 1), None);
    queue.set_active(job(1), true, None);
    assert!(next(&mut queue, 1).is_some());
    queue.cancel(job(1));
    assert_eq!(next(&mut queue, 1), None);
}

#[test]
fn a_job_waits_for_others_to_finish_and_for_ever_for_a_cancelled_one() {
    let mut queue =
        queue(1, &["m"], [queued(1, 5, 1), after(&[1], queued(2, 0, 1)), after(&[2], queued(3, 0, 1))]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    assert_eq!(first.job, job(1));
    assert_eq!(next(&mut queue, 1), None);
    end(&mut queue, &first, 1);
    queue.finish(job(1));
    assert_eq!(next(&mut queue, 1).unwrap().job, job(2));
    queue.cancel(job(2));
    assert_eq!(next(&mut queue, 1), None);
    queue.set_terms(job(3), JobTerms::default(), &[]);
    assert_eq!(next(&mut queue, 1).unwrap().job, job(3), "the way out");
}

#[test]
fn a_job_inserted_after_its_dependency_ended_knows_how_it_ended() {
    let cancelled = QueuedJob { cancelled: vec![job(8)], ..after(&[8], queued(2, 0, 1)) };
    let mut queue = queue(1, &["m"], [after(&[9], queued(1, 0, 1)), cancelled]);
    assert_eq!(grant_at(&mut queue, 1, 0).unwrap().job, job(1));
    assert_eq!(next(&mut queue, 1), None);
}

#[test]
fn an_image_waits_for_the_same_image_of_another_job() {
    let mut queue = queue(1, &["m"], [queued(1, 9, 3), after_images(&[1], queued(2, 0, 5))]);
    let mut first = Vec::new();
    while let Some(pick) = grant_at(&mut queue, 1, 0) {
        assert_eq!(pick.job, job(1));
        first.push(pick);
    }
    end(&mut queue, &first[1], 1);
    assert_eq!(next(&mut queue, 1), None, "image 0 is still out");
    end(&mut queue, &first[0], 1);
    let pick = grant_at(&mut queue, 1, 0).unwrap();
    assert_eq!((pick.job, pick.range.lo()), (job(2), 0));
    let mut highest = pick.range.hi();
    while let Some(pick) = grant_at(&mut queue, 1, 0) {
        highest = pick.range.hi();
    }
    assert_eq!(highest, 2, "images 0 and 1 of the other are settled");
    end(&mut queue, &first[2], 1);
    queue.finish(job(1));
    assert_eq!(grant_at(&mut queue, 1, 0).unwrap().range.lo(), 2);
}

#[test]
fn an_image_that_comes_back_holds_the_images_that_wait_for_it() {
    let mut queue = queue(1, &["m"], [queued(1, 9, 1), after_images(&[1], queued(2, 0, 1))]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    fail(&mut queue, &first);
    queue.give_back(job(1), Retry { not_before_ms: 100, ..retry(1, 0, 1, Vec::new()) });
    assert_eq!(next(&mut queue, 1), None);
}

#[test]
fn images_that_are_skipped_are_not_leased_any_more() {
    let mut waiting = queued(1, 0, 10);
    waiting.fresh = Some(range(5, 10));
    waiting.retries = vec![retry(1, 0, 2, Vec::new()), retry(2, 3, 4, Vec::new())];
    let mut queue = queue(1, &["m"], [waiting]);
    queue.skip(job(1), range(1, 2));
    queue.skip(job(1), range(5, 7));
    assert_eq!(queue.waiting(job(1)), 4);
    let lows: Vec<u64> =
        std::iter::from_fn(|| grant_at(&mut queue, 1, 0)).map(|pick| pick.range.lo()).collect();
    assert_eq!(lows, [3, 7, 8, 9]);
}

fn by(deadline_ms: i64, job: QueuedJob) -> QueuedJob {
    QueuedJob { terms: JobTerms { deadline_ms: Some(deadline_ms), ..job.terms }, ..job }
}

#[test]
fn a_job_whose_deadline_is_at_risk_goes_first_in_time_to_meet_it() {
    // Ten images of ten seconds on one device: it must begin 100 s before the deadline.
    let deadline = 1_000_000;
    let mut queue = queue(1, &["m"], [queued(1, 0, 1_000_000), by(deadline, queued(2, 50, 10))]);
    let (mut now, mut left) = (0, 10);
    while left > 0 {
        let pick = grant_at(&mut queue, 1, now).unwrap();
        left -= if pick.job == job(2) { pick.range.len() } else { 0 };
        now += 10_000 * pick.range.len() as i64;
        end(&mut queue, &pick, 10_000);
        assert!(pick.job == job(1) || now > deadline - 200_000, "not before it must");
    }
    assert!(now <= deadline + 20_000, "{now}");
}

#[test]
fn a_deadline_that_nobody_can_meet_does_not_keep_the_clock_busy() {
    let mut queue = queue(1, &["m"], [by(-5, queued(1, 0, 10))]);
    queue.wake(0);
    assert_eq!(queue.due_ms(), None);
}
