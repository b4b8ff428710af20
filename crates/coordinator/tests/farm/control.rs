//! Jobs from submission to their end.

use seedfarm_core::PixelDigest;
use seedfarm_core::completion::Reception;
use seedfarm_proto::v1::session_request::Message as Ask;
use seedfarm_proto::v1::session_response::Message as Answer;
use seedfarm_proto::{convert, v1};

use crate::support::{CALM, Farm, manifest, spec, unique, within};
use crate::worker::{Worker, expected_pixels, recipes};

pub fn pixels(images: &[v1::Image]) -> Vec<PixelDigest> {
    images.iter().map(|image| image.pixel_digest.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_job_goes_from_submission_over_grants_to_its_finish() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(3).await;
    assert_eq!((job.state(), job.total, job.done), (v1::JobState::Active, 3, 0));
    let mut worker = Worker::connect(&farm, 1).await;
    let mut settled = 0;
    while settled < 3 {
        match worker.next().await {
            Answer::Grant(grant) => {
                assert_eq!((grant.images.len(), grant.model_digest.as_str()), (1, job.model_digest.as_str()));
                worker.complete(&grant).await;
                worker.credit(1).await;
            }
            Answer::Settled(one) => {
                assert_eq!(one.receptions().collect::<Vec<_>>(), [v1::Reception::Accepted]);
                settled += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let job = farm.finished(&job.id).await;
    assert_eq!((job.state(), job.done, job.failed), (v1::JobState::Finished, 3, 0));
    let images = farm.images(&job.id).await;
    assert_eq!(pixels(&images), expected_pixels(&manifest("tiny"), &spec(&["a red apple"], 3)));
    farm.is_consistent().await;
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_a_new_job_and_watchers_see_previews_and_the_end() {
    let farm = Farm::start(CALM).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let job = farm.submit(1).await;
    let mut watch = farm.watch(&job.id).await;
    let grant = worker.grant().await;
    let first = within(watch.message()).await.unwrap().unwrap();
    assert_eq!(first.job.unwrap().done, 0);
    let progress = v1::Progress {
        fence: grant.fence,
        index: 0,
        step: 2,
        steps: 4,
        preview_png: Some(vec![1, 2, 3]),
        ..v1::Progress::default()
    };
    worker.say(Ask::Progress(progress)).await;
    loop {
        let event = within(watch.message()).await.unwrap().unwrap();
        if let Some(preview) = event.preview {
            assert_eq!((preview.index, preview.step, preview.steps), (0, 2, 4));
            assert_eq!((event.leases, event.workers), (1, 1));
            break;
        }
    }
    worker.complete(&grant).await;
    let mut last = None;
    while let Some(event) = within(watch.message()).await.unwrap() {
        last = event.job;
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Finished);
}

#[tokio::test]
async fn a_paused_job_gives_no_lease_and_goes_on_when_it_is_resumed() {
    let farm = Farm::start(CALM).await;
    let (paused, other) = (farm.submit(1).await, farm.submit(1).await);
    let mut jobs = farm.jobs().await;
    jobs.pause_job(v1::PauseJobRequest { job_id: paused.id.clone() }).await.unwrap();
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    assert_eq!(grant.job_id, other.id);
    worker.complete(&grant).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    let resumed = jobs.resume_job(v1::ResumeJobRequest { job_id: paused.id.clone() }).await.unwrap();
    assert_eq!(resumed.into_inner().job.unwrap().state(), v1::JobState::Active);
    assert_eq!(worker.grant().await.job_id, paused.id);
}

#[tokio::test]
async fn cancelling_a_job_revokes_its_leases_and_ends_its_watchers() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(5).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let (first, second) = (worker.grant().await, worker.grant().await);
    let mut watch = farm.watch(&job.id).await;
    let cancelled = farm.jobs().await.cancel_job(v1::CancelJobRequest { job_id: job.id.clone() }).await;
    assert_eq!(cancelled.unwrap().into_inner().job.unwrap().state(), v1::JobState::Cancelled);
    let mut revoked = [worker.revoke().await.fence, worker.revoke().await.fence];
    revoked.sort_by_key(|fence| fence.map(|fence| fence.lease_id));
    assert_eq!(revoked, [first.fence, second.fence]);
    let mut last = None;
    while let Some(event) = within(watch.message()).await.unwrap() {
        last = event.job;
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Cancelled);
    worker.complete(&first).await;
    assert_eq!(worker.settled().await, [Reception::Accepted], "what was made already is kept");
    let again = farm.jobs().await.resume_job(v1::ResumeJobRequest { job_id: job.id }).await.unwrap_err();
    assert!(again.message().contains("the job is cancelled, so it cannot be resumed"), "{again}");
}

#[tokio::test]
async fn the_same_key_again_answers_the_first_job() {
    let farm = Farm::start(CALM).await;
    let request = convert::submission(spec(&["a"], 2), "tiny".into(), unique());
    let mut jobs = farm.jobs().await;
    let first = jobs.submit_job(request.clone()).await.unwrap().into_inner();
    let second = jobs.submit_job(request).await.unwrap().into_inner();
    assert_eq!((first.repeated, second.repeated), (false, true));
    assert_eq!(first.job.unwrap().id, second.job.unwrap().id);
    assert_eq!(farm.store().await.jobs(10, true).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_recipe_of_an_image_can_be_had_before_and_after_it_is_rendered() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let request = v1::GetRecipeRequest { image_id: format!("{}/0", job.id) };
    let mut jobs = farm.jobs().await;
    let before = jobs.get_recipe(request.clone()).await.unwrap().into_inner();
    assert!(before.image.is_none());
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    assert_eq!(recipes(&grant)[0].1.digest().to_string(), before.recipe_digest);
    worker.complete(&grant).await;
    worker.settled().await;
    let after = jobs.get_recipe(request).await.unwrap().into_inner();
    assert_eq!(after.recipe_json, before.recipe_json);
    assert!(after.fingerprint_json.unwrap().contains("strict"));
    let digest = after.image.unwrap().artifact_digest;
    let fetch = v1::FetchArtifactRequest { artifact_digest: digest.clone() };
    let mut file = Vec::new();
    let mut chunks = jobs.fetch_artifact(fetch).await.unwrap().into_inner();
    while let Some(part) = within(chunks.message()).await.unwrap() {
        file.extend(part.chunk.unwrap().data);
    }
    assert_eq!(seedfarm_core::ArtifactDigest::of_bytes(&file).to_string(), digest);
    let past = v1::GetRecipeRequest { image_id: format!("{}/1", job.id) };
    assert!(jobs.get_recipe(past).await.unwrap_err().message().contains("has images 0 to 0"));
}

#[tokio::test]
async fn the_operator_sees_workers_and_models_and_can_drain() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let mut operator = farm.operator().await;
    let status = operator.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.epoch, status.workers, status.devices), (1, 1, 1));
    assert_eq!((status.active_jobs, status.leases, status.images), (1, 1, 0));
    let models = farm.models().await.list_models(v1::ListModelsRequest {}).await.unwrap().into_inner().models;
    assert_eq!((models.len(), models[0].name.as_str(), models[0].workers), (1, "tiny", 1));
    operator.drain_worker(v1::DrainWorkerRequest { worker_id: worker.id.clone() }).await.unwrap();
    assert!(matches!(worker.next().await, Answer::Drain(_)));
    worker.complete(&grant).await;
    worker.settled().await;
    assert_eq!(farm.finished(&job.id).await.done, 1);
    let workers = operator.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!((workers.len(), workers[0].connected, workers[0].draining), (1, true, true));
    assert_eq!((workers[0].images, workers[0].devices[0].leases), (1, 0));
    let nobody = v1::DrainWorkerRequest { worker_id: format!("worker_{:032x}", 9) };
    assert!(operator.drain_worker(nobody).await.unwrap_err().message().contains("is not connected"));
}

#[tokio::test]
async fn services_describe_themselves_by_reflection_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let farm = Farm::start(CALM).await;
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(farm.channel().await);
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = format!("{:?}", within(answers.message()).await.unwrap());
    for service in ["JobService", "WorkerService", "ReplayService", "ModelService", "FarmService"] {
        assert!(answer.contains(&format!("seedfarm.v1.{service}")), "{answer}");
    }
    let symbol = "seedfarm.v1.JobService".to_owned();
    let find = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol);
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(find) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(farm.channel().await);
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = format!("{:?}", within(answers.message()).await.unwrap());
    assert!(answer.contains("FileDescriptorResponse"), "{answer}");
}
