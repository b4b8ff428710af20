//! Claims and completions, one at a time.

use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::placement::Source;
use seedfarm_core::{Attempt, Epoch, JobState, Numerics, PixelDigest};

use super::{Farm, again, failure, fingerprint, fresh, image, range, worker};

#[tokio::test]
async fn a_leased_range_is_completed_and_the_job_finishes_with_its_last_image() {
    let farm = Farm::new().await;
    let job = farm.job(1, 5).await;
    let first = farm.lease(job.row.id, 0, 3).await;
    let second = farm.lease(job.row.id, 3, 5).await;

    let settled = farm.store.complete(farm.epoch(), &[farm.completion(&job, first, 0..3)]).await.unwrap();
    assert_eq!(settled.outcomes[0].receptions, [Reception::Accepted; 3]);
    assert!(settled.outcomes[0].lease_held);
    let progress = settled.progress[0];
    assert_eq!((progress.done, progress.total, progress.finished), (3, 5, false));

    let settled = farm.store.complete(farm.epoch(), &[farm.completion(&job, second, 3..5)]).await.unwrap();
    assert!(settled.progress[0].finished);
    let row = farm.row(job.row.id).await;
    assert_eq!((row.state, row.done, row.failed), (JobState::Finished, 5, 0));
    assert!(row.finished_at_ms.is_some());
    assert_eq!((farm.count("leases").await, farm.count("ranges").await), (0, 0));
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_stale_attempt_cannot_complete_a_range() {
    let farm = Farm::new().await;
    let job = farm.job(1, 4).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    let wrong = [
        Fence { attempt: Attempt(2), ..fence },
        Fence { epoch: Epoch(fence.epoch.0 - 1), ..fence },
        Fence { lease: seedfarm_core::LeaseId(fence.lease.0 + 1), ..fence },
    ];
    for fence in wrong {
        let outcome = farm.complete_one(farm.completion(&job, fence, 0..4)).await;
        assert!(!outcome.lease_held);
        assert_eq!(outcome.receptions, [Reception::Stale; 4]);
    }
    let mut stranger = farm.completion(&job, fence, 0..4);
    stranger.worker = worker(2);
    assert_eq!(farm.complete_one(stranger).await.receptions, [Reception::Stale; 4]);
    assert_eq!((farm.count("results").await, farm.count("leases").await), (0, 1));
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_completion_sent_twice_counts_once() {
    let farm = Farm::new().await;
    let job = farm.job(1, 4).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    let completion = farm.completion(&job, fence, 0..4);
    // Twice in one batch, then once more.
    let batch = [completion.clone(), completion.clone()];
    let settled = farm.store.complete(farm.epoch(), &batch).await.unwrap();
    assert_eq!(settled.outcomes[0].receptions, [Reception::Accepted; 4]);
    assert_eq!(settled.outcomes[1].receptions, [Reception::Repeated; 4]);
    assert!(!settled.outcomes[1].lease_held);
    assert_eq!(settled.progress[0].done, 4);
    let settled = farm.store.complete(farm.epoch(), &[completion]).await.unwrap();
    assert_eq!(settled.outcomes[0].receptions, [Reception::Repeated; 4]);
    assert_eq!(settled.progress, [], "nothing moved");
    farm.assert_sound().await;
}

#[tokio::test]
async fn an_image_named_twice_in_one_completion_is_compared_with_itself() {
    let farm = Farm::new().await;
    let job = farm.job(1, 2).await;
    let fence = farm.lease(job.row.id, 0, 2).await;
    let mut completion = farm.completion(&job, fence, [0, 0, 0, 1]);
    completion.images[2].pixels = PixelDigest::of_bytes(b"other");
    let outcome = farm.complete_one(completion).await;
    use Reception::{Accepted, Divergent, Repeated};
    assert_eq!(outcome.receptions, [Accepted, Repeated, Divergent, Accepted]);
    assert_eq!(farm.row(job.row.id).await.state, JobState::Finished);
    farm.assert_sound().await;
}

#[tokio::test]
async fn other_pixels_in_the_same_class_are_a_divergence_and_the_first_stay() {
    let farm = Farm::new().await;
    let job = farm.job(1, 2).await;
    let fence = farm.lease(job.row.id, 0, 2).await;
    let honest = farm.completion(&job, fence, 0..2);
    farm.complete_one(honest.clone()).await;

    let mut other = honest.clone();
    other.images[1].pixels = PixelDigest::of_bytes(b"other");
    let outcome = farm.complete_one(other.clone()).await;
    assert_eq!(outcome.receptions, [Reception::Repeated, Reception::Divergent]);
    assert_eq!(farm.count("divergences").await, 1);
    assert_eq!(farm.store.totals().await.unwrap().divergences, 1);
    let stored = farm.store.images(job.row.id, 1, 10).await.unwrap();
    assert_eq!(stored[0].pixels, honest.images[1].pixels);

    // In another class other pixels are to be expected.
    other.fingerprint = farm.store.put_fingerprint(&fingerprint("cuda", Numerics::Fast)).await.unwrap();
    let outcome = farm.complete_one(other).await;
    assert_eq!(outcome.receptions, [Reception::Repeated; 2]);
    assert_eq!(farm.count("divergences").await, 1);
    farm.assert_sound().await;
}

#[tokio::test]
async fn images_outside_the_lease_do_not_enter() {
    let farm = Farm::new().await;
    let job = farm.job(1, 4).await;
    let fence = farm.lease(job.row.id, 0, 2).await;
    let mut completion = farm.completion(&job, fence, [0, 1, 2]);
    completion.images.push(image(&job.plan, 3));
    completion.images[3].index = u64::MAX;
    let outcome = farm.complete_one(completion).await;
    use Reception::{Accepted, Stale};
    assert_eq!(outcome.receptions, [Accepted, Accepted, Stale, Stale]);
    assert_eq!(farm.row(job.row.id).await.done, 2);
    farm.assert_sound().await;
}

/// Completes images 0, 1 and 3 of a lease of 6 and returns the ranges that come back.
async fn part(class: Option<FailureClass>) -> (Farm, Vec<(u64, u64, i32, usize)>) {
    let farm = Farm::new().await;
    let job = farm.job(1, 6).await;
    let fence = farm.lease(job.row.id, 0, 6).await;
    let mut completion = farm.completion(&job, fence, [0, 1, 3]);
    completion.failure = class.and_then(failure);
    let outcome = farm.complete_one(completion).await;
    assert_eq!(outcome.receptions, [Reception::Accepted; 3]);
    assert_eq!(outcome.dead, []);
    farm.assert_sound().await;
    let stored = farm.store.snapshot(farm.epoch()).await.unwrap().ranges;
    assert_eq!(stored, outcome.retry);
    let shape = |row: &crate::RangeRow| {
        let retry = &row.retry;
        (retry.range.lo(), retry.range.hi(), retry.spent, retry.avoid.len())
    };
    let shapes = outcome.retry.iter().map(shape).collect();
    (farm, shapes)
}

#[tokio::test]
async fn a_fault_of_the_task_spends_an_attempt_and_splits_what_is_left() {
    let (_farm, shapes) = part(Some(FailureClass::Task)).await;
    assert_eq!(shapes, [(2, 3, 1, 1), (4, 5, 1, 1), (5, 6, 1, 1)]);
}

#[tokio::test]
async fn a_fault_of_the_worker_gives_the_rest_back_whole_and_avoids_the_worker() {
    let (_farm, shapes) = part(Some(FailureClass::Worker)).await;
    assert_eq!(shapes, [(2, 3, 0, 1), (4, 6, 0, 1)]);
}

#[tokio::test]
async fn work_handed_back_or_left_out_comes_back_as_it_was() {
    for class in [Some(FailureClass::HandedBack), Some(FailureClass::Environment), None] {
        let (_farm, shapes) = part(class).await;
        assert_eq!(shapes, [(2, 3, 0, 0), (4, 6, 0, 0)], "{class:?}");
    }
}

#[tokio::test]
async fn a_fault_of_the_environment_can_defer_the_rest() {
    let farm = Farm::new().await;
    let job = farm.job(1, 2).await;
    let fence = farm.lease(job.row.id, 0, 2).await;
    let mut completion = farm.completion(&job, fence, []);
    completion.failure = failure(FailureClass::Environment);
    completion.failure.as_mut().unwrap().defer = Duration::from_secs(3600);
    let outcome = farm.complete_one(completion).await;
    let due = outcome.retry[0].retry.not_before_ms;
    assert!(due >= job.row.created_at_ms + 3_600_000, "an hour after the failure, which came after the job");
    assert_eq!(farm.store.snapshot(farm.epoch()).await.unwrap().ranges, outcome.retry);
}

#[tokio::test]
async fn a_poison_image_ends_among_the_dead_and_its_neighbours_live() {
    let farm = Farm::new().await;
    let job = farm.job(1, 8).await;
    let mut fence = farm.lease(job.row.id, 0, 8).await;
    let mut lease = range(0, 8);
    let mut waiting = Vec::new();
    let mut finished = false;
    for _ in 0..20 {
        let mut completion = farm.completion(&job, fence, lease.indices().take_while(|&index| index != 5));
        if lease.contains(5) {
            completion.failure = failure(FailureClass::Task);
            completion.failure.as_mut().unwrap().error = "the latents turned to NaN\0".into();
        }
        let settled = farm.store.complete(farm.epoch(), &[completion]).await.unwrap();
        finished |= settled.progress.iter().any(|progress| progress.finished);
        waiting.extend(settled.outcomes[0].retry.clone());
        farm.assert_sound().await;
        let Some(next) = waiting.pop() else { break };
        (lease, fence) = (next.retry.range, farm.lease_again(&next).await);
    }
    assert!(finished);
    let row = farm.row(job.row.id).await;
    assert_eq!((row.state, row.done, row.failed), (JobState::Finished, 7, 1));
    let dead = farm.store.dead(job.row.id, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].id.index), (1, 5));
    assert_eq!(dead[0].error, "the latents turned to NaN\u{fffd}");
    assert!(dead[0].attempts >= Attempt(3));
}

#[tokio::test]
async fn what_fails_on_three_workers_counts_as_the_tasks_fault_and_a_restart_forgets_none_of_them() {
    let farm = Farm::new().await;
    let third = crate::NewWorker { id: worker(3), name: "worker 3".into(), version: "0.1.0".into() };
    farm.store.upsert_worker(&third).await.unwrap();
    let job = farm.job(1, 2).await;
    let mut claim = fresh(job.row.id, 0, 2);
    let mut spent = Vec::new();
    for number in [1, 1, 2, 3] {
        claim.worker = worker(number);
        let fence = farm.claim_one(claim).await.unwrap();
        let mut completion = farm.completion(&job, fence, []);
        (completion.worker, completion.failure) = (worker(number), failure(FailureClass::Worker));
        farm.complete_one(completion).await;
        // What counts is stored: the next claim is made from a snapshot, as after a restart.
        let ranges = farm.store.snapshot(farm.epoch()).await.unwrap().ranges;
        spent.push((ranges.len(), ranges[0].retry.spent));
        claim = again(&ranges[0]);
        farm.assert_sound().await;
    }
    assert_eq!(spent, [(1, 0), (1, 0), (1, 0), (2, 1)], "halved, with an attempt spent, at the third worker");
}

#[tokio::test]
async fn a_released_range_comes_back_and_its_late_completion_is_stale() {
    let farm = Farm::new().await;
    let job = farm.job(1, 4).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    let gone = [fence.lease, seedfarm_core::LeaseId(fence.lease.0 + 7)];
    let released = farm.store.release(farm.epoch(), &gone, FailureClass::Worker).await.unwrap();
    assert_eq!(released.len(), 1, "a lease that is over is left out");
    let back = &released[0].retry[0];
    assert_eq!((back.retry.range, back.retry.spent), (range(0, 4), 0));
    assert_eq!(back.retry.avoid, [worker(1)]);
    farm.assert_sound().await;

    let late = farm.complete_one(farm.completion(&job, fence, 0..4)).await;
    assert_eq!(late.receptions, [Reception::Stale; 4]);
    let again = farm.lease_again(back).await;
    let outcome = farm.complete_one(farm.completion(&job, again, 0..4)).await;
    assert_eq!(outcome.receptions, [Reception::Accepted; 4]);
    let late = farm.complete_one(farm.completion(&job, fence, 0..4)).await;
    assert_eq!(late.receptions, [Reception::Repeated; 4]);
    farm.assert_sound().await;
}

#[tokio::test]
async fn claims_of_one_batch_follow_one_another_on_a_job_and_on_a_stored_range() {
    let farm = Farm::new().await;
    let job = farm.job(1, 20).await.row.id;
    let batch = [fresh(job, 4, 8), fresh(job, 0, 4), fresh(job, 8, 10)];
    let leases = farm.store.claim(farm.epoch(), &batch).await.unwrap();
    assert!(leases.iter().all(Option::is_some), "{leases:?}");
    assert_eq!(farm.row(job).await.cursor, 10);

    let released =
        farm.store.release(farm.epoch(), &[leases[0].unwrap()], FailureClass::HandedBack).await.unwrap();
    let row = released[0].retry[0].clone();
    let (mut left, mut middle) = (again(&row), again(&row));
    left.range = range(4, 5);
    left.source = Source::Retry { row: row.retry.row, rest: Some(range(5, 8)) };
    middle.range = range(5, 7);
    middle.source = Source::Retry { row: row.retry.row, rest: Some(range(7, 8)) };
    let leases = farm.store.claim(farm.epoch(), &[left, middle]).await.unwrap();
    assert!(leases.iter().all(Option::is_some), "{leases:?}");
    let snapshot = farm.store.snapshot(farm.epoch()).await.unwrap();
    assert_eq!(snapshot.ranges.len(), 1);
    assert_eq!(snapshot.ranges[0].retry.range, range(7, 8));
    assert_eq!(snapshot.ranges[0].retry.row, row.retry.row, "a range keeps its row");
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_claim_on_images_that_are_not_there_stores_nothing() {
    let farm = Farm::new().await;
    let (job, other) = (farm.job(1, 20).await.row.id, farm.job(2, 20).await.row.id);
    farm.lease(job, 0, 4).await;
    for wrong in [fresh(job, 0, 4), fresh(job, 5, 6), fresh(super::job_id(9), 0, 1)] {
        assert_eq!(farm.claim_one(wrong).await, None);
    }
    for unfit in [[fresh(job, 4, 6), fresh(job, 7, 8)], [fresh(job, 4, 6), fresh(job, 4, 6)]] {
        assert_eq!(farm.store.claim(farm.epoch(), &unfit).await.unwrap(), [None, None]);
    }
    let mixed = [fresh(job, 4, 6), fresh(job, 5, 8), fresh(other, 0, 2)];
    let leases = farm.store.claim(farm.epoch(), &mixed).await.unwrap();
    assert_eq!(leases.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);

    let fence = farm.lease(job, 4, 8).await;
    let released = farm.store.release(farm.epoch(), &[fence.lease], FailureClass::HandedBack).await.unwrap();
    let row = &released[0].retry[0];
    let mut wrong = again(row);
    wrong.attempt = Attempt(2);
    assert_eq!(farm.claim_one(wrong).await, None, "another attempt than is due");
    let mut wrong = again(row);
    wrong.range = range(4, 7);
    assert_eq!(farm.claim_one(wrong).await, None, "another end than is stored");
    let mut wrong = again(row);
    wrong.job = other;
    assert_eq!(farm.claim_one(wrong).await, None, "another job");
    assert_eq!(farm.store.claim(farm.epoch(), &[again(row), again(row)]).await.unwrap(), [None, None]);
    assert!(farm.claim_one(again(row)).await.is_some());
    assert_eq!(farm.claim_one(again(row)).await, None, "it was taken");
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_cancelled_job_keeps_what_still_comes_in_and_stays_cancelled() {
    let farm = Farm::new().await;
    let job = farm.job(1, 2).await;
    let fence = farm.lease(job.row.id, 0, 2).await;
    let cancelled =
        farm.store.set_state(farm.epoch(), job.row.id, JobState::Active, JobState::Cancelled).await.unwrap();
    assert!(cancelled);
    let settled = farm.store.complete(farm.epoch(), &[farm.completion(&job, fence, 0..2)]).await.unwrap();
    assert_eq!(settled.outcomes[0].receptions, [Reception::Accepted; 2]);
    assert!(!settled.progress[0].finished);
    assert_eq!(farm.row(job.row.id).await.state, JobState::Cancelled);
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_worker_cannot_break_a_batch_with_absurd_numbers() {
    let farm = Farm::new().await;
    let job = farm.job(1, 3).await;
    let fence = farm.lease(job.row.id, 0, 3).await;
    let mut completion = farm.completion(&job, fence, 0..3);
    for image in &mut completion.images {
        (image.artifact_bytes, image.duration_ms) = (u64::MAX, u64::MAX);
    }
    assert_eq!(farm.complete_one(completion).await.receptions, [Reception::Accepted; 3]);
    let workers = farm.store.workers().await.unwrap();
    assert_eq!(workers.iter().map(|worker| worker.images).sum::<u64>(), 3);
    farm.assert_sound().await;
}
