//! Second leases of late ranges, in every order in which two leases can end.

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::placement::Source;
use seedfarm_core::{JobState, PixelDigest};

use super::{Farm, Planned, again, failure, fresh, range, worker};
use crate::{Claim, Completion};

/// A job of four images, leased whole to worker 1 and again to worker 2.
async fn pair(farm: &Farm) -> (Planned, Fence, Fence) {
    let job = farm.job(1, 4).await;
    let first = farm.lease(job.row.id, 0, 4).await;
    let twin = farm.claim_one(second(&job, 2)).await.unwrap();
    farm.assert_sound().await;
    (job, first, twin)
}

fn second(job: &Planned, of: u128) -> Claim {
    Claim { worker: worker(of), source: Source::Twin, ..fresh(job.row.id, 0, 4) }
}

fn by(of: u128, completion: Completion) -> Completion {
    Completion { worker: worker(of), ..completion }
}

#[tokio::test]
async fn whichever_of_two_leases_ends_first_counts_and_the_other_is_a_verification() {
    for twin_first in [false, true] {
        let farm = Farm::new().await;
        let (job, first, twin) = pair(&farm).await;
        let own = farm.completion(&job, first, 0..4);
        let other = by(2, farm.completion(&job, twin, 0..4));
        let (one, two) = if twin_first { (other, own) } else { (own, other) };
        let settled = farm.store.complete(farm.epoch(), &[one]).await.unwrap();
        assert_eq!(settled.outcomes[0].receptions, [Reception::Accepted; 4]);
        assert!(settled.progress[0].finished);
        farm.assert_sound().await;
        let outcome = farm.complete_one(two).await;
        assert!(outcome.lease_held);
        assert_eq!(outcome.receptions, [Reception::Repeated; 4]);
        assert!(outcome.retry.is_empty() && outcome.dead.is_empty());
        assert_eq!((farm.count("leases").await, farm.count("ranges").await), (0, 0));
        farm.assert_sound().await;
    }
}

#[tokio::test]
async fn a_second_rendering_with_other_pixels_is_a_divergence() {
    let farm = Farm::new().await;
    let (job, first, twin) = pair(&farm).await;
    farm.complete_one(farm.completion(&job, first, 0..4)).await;
    let mut other = by(2, farm.completion(&job, twin, 0..4));
    other.images[1].pixels = PixelDigest::of_bytes(b"other");
    let outcome = farm.complete_one(other).await;
    assert_eq!(outcome.receptions[1], Reception::Divergent);
    assert_eq!(farm.count("divergences").await, 1);
    farm.assert_sound().await;
}

#[tokio::test]
async fn nothing_comes_back_while_somebody_still_renders_it() {
    for twin_first in [false, true] {
        for released in [false, true] {
            let farm = Farm::new().await;
            let (job, first, twin) = pair(&farm).await;
            let fences = if twin_first { [(2, twin), (1, first)] } else { [(1, first), (2, twin)] };
            for (turn, (of, fence)) in fences.into_iter().enumerate() {
                let retry = if released {
                    let gone = farm.store.release(farm.epoch(), &[fence.lease], FailureClass::Worker).await;
                    gone.unwrap().remove(0).retry
                } else {
                    let mut partly = by(of, farm.completion(&job, fence, 0..turn as u64 + 1));
                    partly.failure = failure(FailureClass::Task);
                    farm.complete_one(partly).await.retry
                };
                let back: u64 = retry.iter().map(|row| row.retry.range.len()).sum();
                let rest = if released { 4 } else { 2 };
                assert_eq!(back, if turn == 0 { 0 } else { rest }, "twin first: {twin_first}, {released}");
                farm.assert_sound().await;
            }
        }
    }
}

#[tokio::test]
async fn two_that_end_in_one_batch_give_their_rest_back_once() {
    for twin_first in [false, true] {
        let farm = Farm::new().await;
        let (job, first, twin) = pair(&farm).await;
        let fail = |completion| Completion { failure: failure(FailureClass::Worker), ..completion };
        let own = fail(farm.completion(&job, first, 0..2));
        let other = fail(by(2, farm.completion(&job, twin, 1..3)));
        let batch = if twin_first { [other, own] } else { [own, other] };
        let settled = farm.store.complete(farm.epoch(), &batch).await.unwrap();
        let back: Vec<_> = settled.outcomes.iter().flat_map(|outcome| &outcome.retry).collect();
        assert_eq!(back.len(), 1);
        assert_eq!(back[0].retry.range, range(3, 4));
        farm.assert_sound().await;
        let again = farm.lease_again(back[0]).await;
        farm.complete_one(farm.completion(&job, again, 3..4)).await;
        assert_eq!(farm.row(job.row.id).await.state, JobState::Finished);
        farm.assert_sound().await;
    }
    let farm = Farm::new().await;
    let (_, first, twin) = pair(&farm).await;
    let both = [twin.lease, first.lease];
    let released = farm.store.release(farm.epoch(), &both, FailureClass::Worker).await.unwrap();
    assert_eq!(released.iter().map(|released| released.retry.len()).sum::<usize>(), 1);
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_twin_that_took_its_firsts_place_survives_a_restart_as_what_it_is() {
    let farm = Farm::new().await;
    let (_, first, twin) = pair(&farm).await;
    let flags = |snapshot: crate::Snapshot| {
        snapshot.leases.iter().map(|lease| (lease.fence.lease, lease.twin, lease.twinned)).collect::<Vec<_>>()
    };
    let snapshot = farm.store.snapshot(farm.epoch()).await.unwrap();
    assert_eq!(flags(snapshot), [(first.lease, false, true), (twin.lease, true, false)]);
    farm.store.release(farm.epoch(), &[first.lease], FailureClass::Worker).await.unwrap();
    let snapshot = farm.store.snapshot(farm.epoch()).await.unwrap();
    assert_eq!(flags(snapshot), [(twin.lease, false, true)]);
}

#[tokio::test]
async fn there_is_no_third_lease_none_for_the_same_worker_and_none_without_a_first() {
    let farm = Farm::new().await;
    let job = farm.job(1, 4).await;
    assert_eq!(farm.claim_one(second(&job, 2)).await, None, "nothing is out");
    let first = farm.lease(job.row.id, 0, 4).await;
    assert_eq!(farm.claim_one(second(&job, 1)).await, None, "the same worker");
    let twin = farm.claim_one(second(&job, 2)).await.unwrap();
    assert_eq!(farm.claim_one(second(&job, 2)).await, None, "it has one");
    farm.store.release(farm.epoch(), &[first.lease], FailureClass::Worker).await.unwrap();
    assert_eq!(farm.claim_one(second(&job, 1)).await, None, "it had one");
    farm.store.release(farm.epoch(), &[twin.lease], FailureClass::Worker).await.unwrap();
    let back = farm.store.snapshot(farm.epoch()).await.unwrap().ranges.remove(0);
    farm.claim_one(again(&back)).await.unwrap();
    assert!(farm.claim_one(second(&job, 2)).await.is_some(), "leased anew, it may have one again");
    farm.assert_sound().await;
}
