//! What is refused, with its reason, and what it leaves unharmed.

use seedfarm_core::completion::Reception;
use seedfarm_core::{Numerics, limits};
use seedfarm_proto::v1::job_service_client::JobServiceClient;
use seedfarm_proto::v1::session_request::Message as Ask;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_proto::{convert, error, v1};
use tonic::{Code, Status};

use crate::support::{BRISK, Bearer, CALM, CLIENT_TOKEN, Farm, WORKER_TOKEN, manifest, spec, unique};
use crate::worker::{Worker, fingerprint, hello};

fn reason(status: &Status) -> String {
    error::reason_of(status).unwrap_or_else(|| panic!("{status:?} has no reason"))
}

#[tokio::test]
async fn a_wrong_token_opens_nothing_and_health_needs_none() {
    let farm = Farm::start(CALM).await;
    for token in ["wrong", WORKER_TOKEN] {
        let mut jobs = JobServiceClient::with_interceptor(farm.channel().await, Bearer::new(token));
        let status = jobs.list_jobs(v1::ListJobsRequest::default()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "WRONG_TOKEN"));
        assert!(status.message().contains("client.token"), "{status}");
    }
    let mut worker = WorkerServiceClient::with_interceptor(farm.channel().await, Bearer::new(CLIENT_TOKEN));
    let status = worker.put_artifact(tokio_stream::iter([])).await.unwrap_err();
    assert_eq!(reason(&status), "WRONG_TOKEN");
    let mut health = tonic_health::pb::health_client::HealthClient::new(farm.channel().await);
    let request = tonic_health::pb::HealthCheckRequest { service: "seedfarm.v1.JobService".into() };
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn an_unknown_model_is_refused_with_the_names_of_the_known_ones() {
    let farm = Farm::start(CALM).await;
    let request = convert::submission(spec(&["a"], 1), "huge".into(), unique());
    let status = farm.jobs().await.submit_job(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "UNKNOWN_MODEL"));
    assert!(status.message().contains("'huge'") && status.message().contains("tiny"), "{status}");
}

#[tokio::test]
async fn a_job_with_one_bad_line_is_refused_whole_and_nothing_is_stored() {
    let farm = Farm::start(CALM).await;
    let mut bad = spec(&["a good prompt", "a bad prompt"], 1);
    bad.prompts[1].settings.width = Some(12);
    let request = convert::submission(bad, "tiny".into(), unique());
    let mut jobs = farm.jobs().await;
    let status = jobs.submit_job(request.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "SIZE_NOT_A_MULTIPLE"));
    assert!(status.message().starts_with("line 2: width 12 is not a multiple of 8"), "{status}");
    let keyless = v1::SubmitJobRequest { idempotency_key: String::new(), ..request };
    assert_eq!(reason(&jobs.submit_job(keyless).await.unwrap_err()), "BAD_IDEMPOTENCY_KEY");
    let store = farm.store().await;
    assert_eq!(store.jobs(10, true).await.unwrap(), []);
    let plan = seedfarm_core::plan::plan(&spec(&["a good prompt"], 1), &manifest("tiny")).unwrap();
    let template = plan.lines[0].template.digest();
    assert_eq!(store.templates(&[template]).await.unwrap(), []);
}

#[tokio::test]
async fn an_upload_that_is_not_its_digest_or_too_large_is_not_kept() {
    let farm = Farm::start(CALM).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let wrong = worker.upload_as(&"00".repeat(32), b"a picture").await.unwrap_err();
    assert_eq!(reason(&wrong), "WRONG_DIGEST");
    let large = vec![0; limits::MAX_ARTIFACT_BYTES + 1];
    assert_eq!(reason(&worker.upload(&large).await.unwrap_err()), "ARTIFACT_TOO_LARGE");
    let digest = worker.upload(b"a picture").await.unwrap();
    assert!(worker.upload_as(&digest, b"a picture").await.unwrap(), "the same again is known");
    for artifact_digest in ["00".repeat(32), seedfarm_core::ArtifactDigest::of_bytes(&large).to_string()] {
        let fetch = v1::FetchArtifactRequest { artifact_digest };
        let status = farm.jobs().await.fetch_artifact(fetch).await.unwrap_err();
        assert_eq!(reason(&status), "ARTIFACT_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_hello_that_cannot_be_read_ends_the_stream_with_its_reason() {
    let farm = Farm::start(CALM).await;
    let nothing = v1::Hello { devices: Vec::new(), ..hello(1) };
    let mut worker = Worker::greet(&farm, nothing).await;
    let status = worker.try_next().await.unwrap_err();
    assert_eq!(reason(&status), "HELLO_REFUSED");
    assert!(status.message().contains("names no device"), "{status}");
}

/// Has one worker spoil the completion of a one-image job; answers the farm, the reason that the worker
/// was told, and the job.
async fn spoilt(spoil: impl FnOnce(&mut v1::Complete)) -> (Farm, String, v1::Job) {
    let farm = Farm::start(BRISK).await;
    let job = farm.submit(1).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let mut complete = worker.render(&grant).await;
    spoil(&mut complete);
    let images = complete.images.len();
    worker.say(Ask::Complete(complete)).await;
    let revoke = worker.revoke().await;
    assert_eq!(revoke.fence, grant.fence);
    assert_eq!(worker.settled().await, vec![Reception::Stale; images]);
    (farm, revoke.reason, job)
}

/// Another worker makes what was refused.
async fn is_unharmed(farm: &Farm, job: &v1::Job) {
    let mut honest = Worker::connect(farm, 2).await;
    let grant = honest.grant().await;
    assert_eq!(grant.fence.unwrap().attempt, 1, "no attempt was spent");
    honest.complete(&grant).await;
    assert_eq!(honest.settled().await, [Reception::Accepted]);
    let job = farm.finished(&job.id).await;
    assert_eq!((job.done, job.failed), (1, 0));
    farm.is_consistent().await;
}

#[tokio::test]
async fn an_image_whose_file_was_never_uploaded_is_refused() {
    let (farm, reason, job) = spoilt(|complete| complete.images[0].artifact_digest = "11".repeat(32)).await;
    assert!(reason.contains("is not stored"), "{reason}");
    is_unharmed(&farm, &job).await;
}

#[tokio::test]
async fn an_image_of_another_recipe_is_refused() {
    let (farm, reason, job) = spoilt(|complete| complete.images[0].recipe_digest = "22".repeat(32)).await;
    assert!(reason.contains("was leased"), "{reason}");
    is_unharmed(&farm, &job).await;
}

#[tokio::test]
async fn an_image_outside_the_lease_is_refused() {
    let (farm, reason, job) = spoilt(|complete| complete.images[0].index = 7).await;
    assert!(reason.contains("image 7 is not in the lease"), "{reason}");
    is_unharmed(&farm, &job).await;
}

#[tokio::test]
async fn an_image_that_comes_twice_is_refused() {
    let farm = Farm::start(BRISK).await;
    let job = farm.submit(1).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let mut complete = worker.render(&grant).await;
    complete.images.push(complete.images[0].clone());
    worker.say(Ask::Complete(complete)).await;
    assert!(worker.revoke().await.reason.contains("came twice"));
    assert_eq!(worker.settled().await, [Reception::Accepted, Reception::Stale]);
    assert_eq!(farm.finished(&job.id).await.done, 1);
}

#[tokio::test]
async fn images_of_the_wrong_arithmetic_are_refused() {
    let (farm, reason, job) =
        spoilt(|complete| complete.fingerprint_json = fingerprint(Numerics::Fast)).await;
    assert!(reason.contains("fast numerics"), "{reason}");
    is_unharmed(&farm, &job).await;
}

#[tokio::test]
async fn a_file_of_another_size_than_told_is_refused() {
    let (farm, reason, job) = spoilt(|complete| complete.images[0].artifact_bytes += 1).await;
    assert!(reason.contains("were told"), "{reason}");
    is_unharmed(&farm, &job).await;
}

#[tokio::test]
async fn images_that_are_missing_without_a_reason_are_the_workers_fault() {
    let (farm, reason, job) = spoilt(|complete| complete.images.clear()).await;
    assert!(reason.contains("0 of 1 images came"), "{reason}");
    is_unharmed(&farm, &job).await;
}

#[tokio::test]
async fn another_workers_lease_cannot_be_completed() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut owner = Worker::connect(&farm, 1).await;
    let grant = owner.grant().await;
    let mut thief = Worker::connect(&farm, 2).await;
    thief.complete(&grant).await;
    assert!(thief.revoke().await.reason.contains("another worker's"));
    assert_eq!(thief.settled().await, [Reception::Stale]);
    owner.complete(&grant).await;
    assert_eq!(owner.settled().await, [Reception::Accepted]);
    assert_eq!(farm.finished(&job.id).await.done, 1);
}

#[tokio::test]
async fn what_is_unknown_is_named_in_the_refusal() {
    let farm = Farm::start(CALM).await;
    let mut jobs = farm.jobs().await;
    let id = format!("job_{:032x}", 1);
    let get = v1::GetJobRequest { job_id: id.clone() };
    let status = jobs.get_job(get).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "JOB_NOT_FOUND"));
    assert!(status.message().contains(&id));
    let get = v1::GetJobRequest { job_id: "7".into() };
    assert!(jobs.get_job(get).await.unwrap_err().message().contains("'7' is not a job id"));
}
