//! Adapters: shown by workers, named by jobs, and only given to those who have them.

use seedfarm_core::settings::LoraRequest;
use seedfarm_core::{AdapterDigest, AdapterKind, AdapterManifest, Recipe, canonical};
use seedfarm_proto::v1::create_replay_request::Original;
use seedfarm_proto::{convert, error, v1};
use tonic::Status;

use crate::support::{CALM, Farm, spec, unique};
use crate::worker::{Worker, hello, picture, recipes};

fn lora(name: &str, family: &str) -> AdapterManifest {
    AdapterManifest {
        name: name.into(),
        kind: AdapterKind::Lora,
        digest: AdapterDigest::of_bytes(name.as_bytes()),
        family: Some(family.into()),
        bytes: 1000,
    }
}

/// Connects worker `n` with LoRAs.
async fn connect(farm: &Farm, n: u128, loras: &[AdapterManifest]) -> Worker {
    let adapters_json = loras.iter().map(canonical::to_string).collect();
    let mut worker = Worker::greet(farm, v1::Hello { adapters_json, ..hello(n) }).await;
    worker.welcome().await;
    worker.credit(1).await;
    worker
}

/// A job of one image with a LoRA.
async fn submit(farm: &Farm, name: &str) -> Result<v1::SubmitJobResponse, Status> {
    let mut spec = spec(&["a red apple"], 1);
    spec.settings.loras = Some(vec![LoraRequest { name: name.into(), weight: 0.5, text_weight: None }]);
    let request = convert::submission(spec, "tiny".into(), unique());
    farm.jobs().await.submit_job(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn adapters_are_listed_with_how_many_workers_have_them() {
    let farm = Farm::start(CALM).await;
    let (felt, ink) = (lora("felt", "stable-diffusion"), lora("ink", "stable-diffusion"));
    let _first = connect(&farm, 1, &[felt.clone(), ink.clone()]).await;
    let _second = connect(&farm, 2, std::slice::from_ref(&ink)).await;
    let listed = farm.models().await.list_adapters(v1::ListAdaptersRequest {}).await.unwrap().into_inner();
    let listed: Vec<_> = listed.adapters.iter().map(|a| (a.name.as_str(), a.workers, a.bytes)).collect();
    assert_eq!(listed, [("felt", 1, 1000), ("ink", 2, 1000)]);
}

#[tokio::test]
async fn an_adapter_that_nobody_has_or_of_another_family_is_refused_at_its_line() {
    let farm = Farm::start(CALM).await;
    let large = lora("large", "stable-diffusion-xl");
    let _worker = connect(&farm, 1, &[lora("felt", "stable-diffusion"), large]).await;
    for (name, reason, words) in
        [("silk", "UNKNOWN_ADAPTER", "felt"), ("large", "OTHER_FAMILY", "stable-diffusion-xl")]
    {
        let status = submit(&farm, name).await.unwrap_err();
        assert_eq!(error::reason_of(&status).as_deref(), Some(reason));
        assert!(status.message().starts_with("line 1: ") && status.message().contains(words), "{status}");
    }
}

#[tokio::test]
async fn a_job_goes_to_the_worker_that_has_its_adapters_also_after_a_restart() {
    let mut farm = Farm::start(CALM).await;
    let felt = lora("felt", "stable-diffusion");
    let mut having = connect(&farm, 1, std::slice::from_ref(&felt)).await;
    drop(having);
    let lacking = connect(&farm, 2, &[]).await;
    let submitted = submit_until_lacking(&farm).await;
    assert!(submitted.warnings[0].contains("none has all 1 adapters"), "{:?}", submitted.warnings);
    drop(lacking);
    farm.stop().await.unwrap();
    farm.begin().await;
    let mut lacking = connect(&farm, 2, &[]).await;
    let other = farm.submit(1).await;
    let grant = lacking.grant().await;
    assert_eq!(grant.job_id, other.id, "the older job passed it over");
    lacking.complete(&grant).await;
    having = connect(&farm, 1, std::slice::from_ref(&felt)).await;
    let grant = having.grant().await;
    let job = submitted.job.unwrap();
    assert_eq!(grant.job_id, job.id);
    assert_eq!(recipes(&grant)[0].1.template.adapters(), [felt.digest]);
    having.complete(&grant).await;
    assert_eq!(farm.finished(&job.id).await.done, 1);
}

/// Submits until the coordinator has noticed that the worker with the LoRA has left; earlier jobs are
/// cancelled.
async fn submit_until_lacking(farm: &Farm) -> v1::SubmitJobResponse {
    loop {
        let submitted = submit(farm, "felt").await.unwrap();
        if !submitted.warnings.is_empty() {
            return submitted;
        }
        let job_id = submitted.job.unwrap().id;
        farm.jobs().await.cancel_job(v1::CancelJobRequest { job_id }).await.unwrap();
    }
}

#[tokio::test]
async fn a_replay_whose_adapter_is_unknown_is_unverifiable_and_says_so() {
    let farm = Farm::start(CALM).await;
    let mut worker = connect(&farm, 1, &[lora("felt", "stable-diffusion")]).await;
    let submitted = submit(&farm, "felt").await.unwrap();
    assert_eq!(submitted.warnings, Vec::<String>::new());
    let grant = worker.grant().await;
    let recipe: Recipe = recipes(&grant).remove(0).1;
    let elsewhere = Farm::start(CALM).await;
    let foreign = v1::ForeignImage {
        recipe_json: recipe.canonical(),
        pixel_digest: picture(&recipe, 0).digest().to_string(),
        fingerprint_json: None,
        png: None,
    };
    let request = v1::CreateReplayRequest { original: Some(Original::Foreign(foreign)) };
    let replay = elsewhere.replays().await.create_replay(request).await.unwrap().into_inner().replay.unwrap();
    let outcome = replay.outcome.unwrap();
    assert_eq!(outcome.verdict, "unverifiable");
    let missing = outcome.missing.unwrap();
    assert!(missing.contains(&format!("the LoRA {}", AdapterDigest::of_bytes(b"felt"))), "{missing}");
}

#[tokio::test]
async fn a_name_passes_to_the_file_that_workers_have_now_and_the_old_one_keeps_its_digest() {
    let farm = Farm::start(CALM).await;
    let old = lora("felt", "stable-diffusion");
    let new = AdapterManifest { digest: AdapterDigest::of_bytes(b"felt again"), ..old.clone() };
    let gone = connect(&farm, 1, std::slice::from_ref(&old)).await;
    drop(gone);
    let mut worker = connect(&farm, 1, std::slice::from_ref(&new)).await;
    submit(&farm, "felt").await.unwrap();
    let grant = worker.grant().await;
    assert_eq!(recipes(&grant)[0].1.template.adapters(), [new.digest]);
    let submitted = submit(&farm, &old.digest.to_string()).await.unwrap();
    assert!(submitted.warnings[0].contains("none has all 1 adapters"), "{:?}", submitted.warnings);
}
