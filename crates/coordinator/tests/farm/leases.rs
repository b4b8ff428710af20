//! Leases that expire, come back, fail and are fenced.

use seedfarm_core::completion::Reception;
use seedfarm_proto::v1;
use seedfarm_proto::v1::session_response::Message as Answer;

use crate::control::pixels;
use crate::support::{CALM, Farm, HASTY, manifest, spec};
use crate::worker::{Worker, expected_pixels, hello};

#[tokio::test]
async fn after_expiry_a_fence_is_stale_and_another_worker_makes_the_image() {
    let farm = Farm::start(HASTY).await;
    let job = farm.submit(1).await;
    let mut sleeper = Worker::connect(&farm, 1).await;
    let lost = sleeper.grant().await;
    let mut other = Worker::connect(&farm, 2).await;
    let grant = other.grant().await;
    assert_eq!(grant.images, lost.images);
    assert!(sleeper.revoke().await.reason.contains("not renewed"));
    sleeper.complete(&lost).await;
    assert_eq!(sleeper.settled().await, [Reception::Stale]);
    sleeper.fail(&lost, v1::FailureClass::HandedBack, "revoked").await;
    assert_eq!(sleeper.settled().await, [], "handing back what is gone blames nobody");
    let mut complete = other.render(&grant).await;
    loop {
        other.say(seedfarm_proto::v1::session_request::Message::Complete(complete.clone())).await;
        match other.next().await {
            Answer::Settled(settled) if settled.receptions().next() == Some(v1::Reception::Accepted) => break,
            Answer::Grant(again) => complete = other.render(&again).await,
            Answer::Settled(_) | Answer::Revoke(_) => other.credit(1).await,
            unexpected => panic!("{unexpected:?}"),
        }
    }
    let job = farm.finished(&job.id).await;
    assert_eq!((job.done, job.failed), (1, 0));
    sleeper.complete(&lost).await;
    assert_eq!(sleeper.settled().await, [Reception::Repeated], "now it is there, with the same pixels");
    farm.is_consistent().await;
}

#[tokio::test]
async fn heartbeats_keep_a_lease_and_a_lease_held_in_vain_is_revoked() {
    let farm = Farm::start(HASTY).await;
    farm.submit(1).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let until = tokio::time::Instant::now() + 4 * HASTY.lease_ttl;
    let mut beats = tokio::time::interval(HASTY.heartbeat);
    while tokio::time::Instant::now() < until {
        beats.tick().await;
        worker.heartbeat(grant.fence.into_iter().collect()).await;
    }
    worker.complete(&grant).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    let foreign = v1::Fence { lease_id: 999, attempt: 1, epoch: 1 };
    worker.heartbeat(vec![foreign]).await;
    assert_eq!(worker.revoke().await.fence, Some(foreign));
}

#[tokio::test]
async fn a_worker_that_comes_back_keeps_the_leases_it_holds() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut before = Worker::connect(&farm, 1).await;
    let grant = before.grant().await;
    drop(before);
    let stale = v1::Fence { lease_id: 999, attempt: 1, epoch: 1 };
    let held = vec![grant.fence.unwrap(), stale];
    let mut after = Worker::greet(&farm, v1::Hello { held, ..hello(1) }).await;
    after.welcome().await;
    assert_eq!(after.revoke().await.fence, Some(stale));
    after.complete(&grant).await;
    assert_eq!(after.settled().await, [Reception::Accepted]);
    assert_eq!(farm.finished(&job.id).await.done, 1);
}

#[tokio::test]
async fn a_second_stream_of_one_worker_ends_the_first() {
    let farm = Farm::start(CALM).await;
    let mut first = Worker::connect(&farm, 1).await;
    let _second = Worker::connect(&farm, 1).await;
    assert!(first.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_poison_image_ends_among_the_dead_with_its_error_and_the_job_finishes() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(3).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let mut settled = 0;
    while settled < 5 {
        match worker.next().await {
            Answer::Grant(grant) if grant.images.iter().any(|image| image.index == 1) => {
                worker.fail(&grant, v1::FailureClass::Task, "the prompt holds a curse").await;
            }
            Answer::Grant(grant) => worker.complete(&grant).await,
            Answer::Settled(_) => {
                settled += 1;
                worker.credit(1).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let job = farm.finished(&job.id).await;
    assert_eq!((job.state(), job.done, job.failed), (v1::JobState::Finished, 2, 1));
    let request = v1::GetJobRequest { job_id: job.id };
    let dead = farm.jobs().await.get_job(request).await.unwrap().into_inner().dead;
    assert_eq!((dead.len(), dead[0].attempts, dead[0].error.as_str()), (1, 3, "the prompt holds a curse"));
    assert!(dead[0].id.ends_with("/1"));
    farm.is_consistent().await;
}

#[tokio::test]
async fn work_handed_back_goes_to_another_worker_at_once() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut leaving = Worker::connect(&farm, 1).await;
    let grant = leaving.grant().await;
    leaving.say(v1::session_request::Message::Drain(v1::Drain {})).await;
    leaving.fail(&grant, v1::FailureClass::HandedBack, "stopping").await;
    assert_eq!(leaving.settled().await, []);
    let mut other = Worker::connect(&farm, 2).await;
    let again = other.grant().await;
    assert_eq!(again.fence.unwrap().attempt, 1, "no attempt was spent");
    other.complete(&again).await;
    assert_eq!(farm.finished(&job.id).await.done, 1);
}

#[tokio::test]
async fn many_workers_share_a_job_and_every_image_is_made_once() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(200).await;
    for n in 1..=4 {
        let worker = Worker::connect(&farm, n).await;
        tokio::spawn(worker.work());
    }
    let job = farm.finished(&job.id).await;
    assert_eq!((job.done, job.failed), (200, 0));
    let images = farm.images(&job.id).await;
    assert_eq!(pixels(&images), expected_pixels(&manifest("tiny"), &spec(&["a red apple"], 200)));
    farm.is_consistent().await;
}
