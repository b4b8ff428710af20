//! Workers and clients that lie, shout, or do not listen: each is refused with the reason and counted, and no
//! job is harmed.

use std::time::Duration;

use seedfarm_core::completion::Reception;
use seedfarm_core::{Fingerprint, Numerics, PixelDigest, Recipe};
use seedfarm_picture::{Caption, Picture};
use seedfarm_proto::v1::session_request::Message as Ask;
use seedfarm_proto::v1::session_response::Message as Answer;
use seedfarm_proto::{PROTOCOL, error, v1};
use tokio::time::{Instant, interval};
use tonic::{Code, Status};

use crate::support::{BRISK, CALM, Farm, HASTY, Timing, within};
use crate::worker::{Worker, fingerprint, hello, picture, recipes};

/// Heartbeats so rare that a worker counts as alive for the whole test.
const SLOW_HEART: Timing = Timing { lease_ttl: Duration::from_secs(300), heartbeat: Duration::from_secs(60) };

fn reason(status: &Status) -> String {
    error::reason_of(status).unwrap_or_else(|| panic!("{status:?} has no reason"))
}

/// What worker `n` was refused, as its operator sees it.
async fn refusals(farm: &Farm, n: u128) -> Vec<(String, u64)> {
    let workers =
        farm.operator().await.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    let worker = workers.into_iter().find(|worker| worker.id == hello(n).worker_id).unwrap();
    worker.refusals.into_iter().map(|refusal| (refusal.reason, refusal.count)).collect()
}

/// Has a worker deliver the file that `make` makes of the recipe, with the pixel digest that it tells. It must
/// be refused for `counted`, and another worker makes the image. Answers what the first was told.
async fn refused(counted: &str, make: impl FnOnce(&Recipe) -> (Vec<u8>, PixelDigest)) -> String {
    let farm = Farm::start(BRISK).await;
    let job = farm.submit(1).await;
    let mut liar = Worker::connect(&farm, 1).await;
    let grant = liar.grant().await;
    let mut complete = liar.render(&grant).await;
    let (file, pixels) = make(&recipes(&grant)[0].1);
    let image = &mut complete.images[0];
    (image.pixel_digest, image.artifact_bytes) = (pixels.to_string(), file.len() as u64);
    image.artifact_digest = liar.upload(&file).await.unwrap();
    liar.say(Ask::Complete(complete)).await;
    let revoke = liar.revoke().await;
    assert_eq!(liar.settled().await, [Reception::Stale]);
    assert_eq!(refusals(&farm, 1).await, [(counted.to_owned(), 1)]);

    let mut honest = Worker::connect(&farm, 2).await;
    let again = honest.grant().await;
    assert_eq!(again.fence.unwrap().attempt, 1, "no attempt was spent");
    honest.complete(&again).await;
    assert_eq!(honest.settled().await, [Reception::Accepted]);
    assert_eq!(farm.finished(&job.id).await.done, 1);
    assert_eq!(refusals(&farm, 2).await, []);
    farm.is_consistent().await;
    revoke.reason
}

#[tokio::test]
async fn a_picture_of_another_size_than_its_recipes_is_refused() {
    let told = refused("WRONG_PICTURE_SIZE", |_| {
        let wide = Picture::new(16, 8, vec![7; 16 * 8 * 3]).unwrap();
        (seedfarm_picture::encode_plain(&wide).unwrap(), wide.digest())
    });
    let told = told.await;
    assert!(told.contains("16x8 pixels, not 8x8"), "{told}");
}

#[tokio::test]
async fn a_pixel_digest_that_is_not_that_of_the_file_is_refused() {
    let told = refused("WRONG_PIXELS", |recipe| {
        let file = seedfarm_picture::encode_plain(&picture(recipe, 1)).unwrap();
        (file, picture(recipe, 0).digest())
    });
    let told = told.await;
    assert!(told.contains("was told"), "{told}");
}

#[tokio::test]
async fn a_file_that_is_no_picture_is_refused() {
    let told = refused("NOT_A_PICTURE", |recipe| (b"a picture".to_vec(), picture(recipe, 0).digest())).await;
    assert!(told.contains("is no picture"), "{told}");
}

#[tokio::test]
async fn a_file_that_says_it_is_of_another_recipe_is_refused() {
    let told = refused("WRONG_METADATA", |recipe| {
        let other = recipe.template.clone().with_seed(recipe.seed ^ 1);
        let fingerprint: Fingerprint = serde_json::from_str(&fingerprint(Numerics::Strict)).unwrap();
        let caption =
            Caption { recipe: &other, model_name: "tiny", fingerprint: &fingerprint, version: "test" };
        let picture = picture(recipe, 0);
        (seedfarm_picture::encode(&picture, &caption).unwrap(), picture.digest())
    });
    let told = told.await;
    assert!(told.contains("holds the recipe"), "{told}");
}

#[tokio::test]
async fn a_worker_of_an_older_or_newer_protocol_is_turned_away_with_both_numbers() {
    let farm = Farm::start(CALM).await;
    Worker::connect(&farm, 1).await;
    for (protocol, way_out) in [(0, "upgrade the worker"), (PROTOCOL + 1, "upgrade the coordinator")] {
        let mut worker = Worker::greet(&farm, v1::Hello { protocol, ..hello(1) }).await;
        let status = worker.try_next().await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "PROTOCOL_MISMATCH"));
        let told = status.message();
        assert!(told.contains(&format!("version {protocol} ")) && told.contains(way_out), "{told}");
    }
    assert_eq!(refusals(&farm, 1).await, [("PROTOCOL_MISMATCH".to_owned(), 2)]);
}

fn another_process() -> v1::Hello {
    v1::Hello { instance: "another process".into(), ..hello(1) }
}

#[tokio::test]
async fn a_second_process_with_the_same_identity_is_refused_while_the_first_lives() {
    let farm = Farm::start(SLOW_HEART).await;
    let mut first = Worker::connect(&farm, 1).await;
    let mut second = Worker::greet(&farm, another_process()).await;
    let status = second.try_next().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "WORKER_CONNECTED"));
    assert!(status.message().contains("data folder of its own"), "{status}");
    assert_eq!(error::retry_after(&status), Some(2 * SLOW_HEART.heartbeat));
    let job = farm.submit(1).await;
    let grant = first.grant().await;
    first.complete(&grant).await;
    assert_eq!(farm.finished(&job.id).await.done, 1, "the first is undisturbed");
    assert_eq!(refusals(&farm, 1).await, [("WORKER_CONNECTED".to_owned(), 1)]);

    drop(first);
    let let_in = async { while Worker::greet(&farm, another_process()).await.try_next().await.is_err() {} };
    within(let_in).await;
}

#[tokio::test]
async fn a_process_that_is_silent_for_two_heartbeats_gives_way() {
    let farm = Farm::start(HASTY).await;
    let mut silent = Worker::connect(&farm, 1).await;
    let let_in = async {
        loop {
            let mut second = Worker::greet(&farm, another_process()).await;
            if second.try_next().await.is_ok() {
                return second;
            }
        }
    };
    let _second = within(let_in).await;
    assert!(silent.try_next().await.unwrap().is_none(), "the silent one's stream is over");
}

#[tokio::test]
async fn a_worker_that_shouts_is_sent_away_for_a_while() {
    let farm = Farm::start(CALM).await;
    let mut loud = Worker::connect(&farm, 1).await;
    loud.shout(&Ask::Credit(v1::Credit { device: 99, leases: 1 }), 200_000).await;
    let status = loud.try_next().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_MESSAGES"));
    assert!(error::retry_after(&status).is_some());
    assert_eq!(refusals(&farm, 1).await, [("TOO_MANY_MESSAGES".to_owned(), 1)]);
    let job = farm.submit(1).await;
    let mut calm = Worker::connect(&farm, 1).await;
    let grant = calm.grant().await;
    calm.complete(&grant).await;
    assert_eq!(farm.finished(&job.id).await.done, 1);
}

fn progress(grant: &v1::Grant) -> Ask {
    Ask::Progress(v1::Progress { fence: grant.fence, steps: 4, ..v1::Progress::default() })
}

#[tokio::test]
async fn progress_of_foreign_or_finished_work_is_counted_and_told_to_stop() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut owner = Worker::connect(&farm, 1).await;
    let grant = owner.grant().await;
    let mut thief = Worker::connect(&farm, 2).await;
    thief.say(progress(&grant)).await;
    assert_eq!(thief.revoke().await.fence, grant.fence);
    assert_eq!(refusals(&farm, 2).await, [("LEASE_OF_ANOTHER".to_owned(), 1)]);
    owner.complete(&grant).await;
    assert_eq!(owner.settled().await, [Reception::Accepted]);
    assert_eq!(farm.finished(&job.id).await.done, 1);
    owner.say(progress(&grant)).await;
    assert_eq!(owner.revoke().await.fence, grant.fence);
    assert_eq!(refusals(&farm, 1).await, [("LEASE_NOT_HELD".to_owned(), 1)]);
}

/// Fails whatever comes for want of memory, until the stream ends.
async fn run_out_of_memory(mut worker: Worker) {
    while let Ok(Some(answer)) = worker.try_next().await {
        if let Answer::Grant(grant) = answer {
            worker.fail(&grant, v1::FailureClass::Worker, "out of memory").await;
            worker.credit(1).await;
        }
    }
}

#[tokio::test]
async fn an_image_that_fits_into_no_workers_memory_ends_among_the_dead() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(2).await;
    for n in 1..=3 {
        tokio::spawn(run_out_of_memory(Worker::connect(&farm, n).await));
    }
    let job = farm.finished(&job.id).await;
    assert_eq!((job.state(), job.done, job.failed), (v1::JobState::Finished, 0, 2));
    let request = v1::GetJobRequest { job_id: job.id };
    let dead = farm.jobs().await.get_job(request).await.unwrap().into_inner().dead;
    assert!(dead.iter().all(|dead| dead.error == "out of memory"), "{dead:?}");
    farm.is_consistent().await;
}

#[tokio::test]
async fn a_client_that_submits_without_end_is_told_when_to_come_back() {
    let farm = Farm::start(CALM).await;
    let mut jobs = farm.jobs().await;
    let status = loop {
        let status = jobs.submit_job(v1::SubmitJobRequest::default()).await.unwrap_err();
        if reason(&status) != "BAD_IDEMPOTENCY_KEY" {
            break status;
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_SUBMISSIONS"));
    assert!(error::retry_after(&status).is_some_and(|wait| wait >= Duration::from_secs(1)));
}

#[tokio::test]
async fn more_watchers_than_there_is_room_for_are_told_when_to_come_back() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let clients = [farm.jobs().await, farm.jobs().await];
    let mut watches = Vec::new();
    let status = loop {
        let mut jobs = clients[watches.len() % 2].clone();
        let request = v1::WatchJobRequest { job_id: job.id.clone(), previews: false };
        match within(jobs.watch_job(request)).await {
            Ok(watch) => watches.push(watch),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "WATCHERS_BUSY"));
    assert!(error::retry_after(&status).is_some());
    assert_eq!(watches.len(), 1024);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_dropped_with_the_reason() {
    let farm = Farm::start(HASTY).await;
    let job = farm.submit(1).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let mut watch = farm.watch(&job.id).await;
    let preview =
        v1::Progress { fence: grant.fence, preview_png: Some(vec![0; 400 << 10]), ..v1::Progress::default() };
    let mut beats = interval(HASTY.heartbeat);
    let until = Instant::now() + 20 * HASTY.lease_ttl;
    while Instant::now() < until {
        beats.tick().await;
        worker.heartbeat(grant.fence.into_iter().collect()).await;
        worker.say(Ask::Progress(preview.clone())).await;
    }
    let status = loop {
        match within(watch.message()).await {
            Ok(answer) => assert!(answer.is_some(), "the job goes on"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SLOW_READER"));
}
