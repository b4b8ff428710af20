//! Replays and their verdicts.

use seedfarm_core::Recipe;
use seedfarm_core::completion::Fence;
use seedfarm_proto::v1::create_replay_request::Original;
use seedfarm_proto::{error, v1};
use seedfarm_store::{Completion, NewResult, Store};

use crate::support::{CALM, Farm, manifest, within};
use crate::worker::{Worker, hello, picture, recipes};

/// A farm with one image, made by worker 1, who is still there and has no credit.
async fn with_an_image() -> (Farm, Worker, v1::Image) {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(1).await;
    let mut worker = Worker::greet(&farm, hello(1)).await;
    worker.welcome().await;
    worker.credit(1).await;
    let grant = worker.grant().await;
    worker.complete(&grant).await;
    worker.settled().await;
    let image = farm.images(&job.id).await.remove(0);
    (farm, worker, image)
}

async fn create(farm: &Farm, original: Original) -> v1::Replay {
    let request = v1::CreateReplayRequest { original: Some(original) };
    farm.replays().await.create_replay(request).await.unwrap().into_inner().replay.unwrap()
}

/// Waits for the verdict.
async fn judged(farm: &Farm, id: &str) -> (v1::Replay, v1::Outcome) {
    let request = v1::WatchReplayRequest { replay_id: id.to_owned() };
    let mut watch = farm.replays().await.watch_replay(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(event) = within(watch.message()).await.unwrap() {
        last = event.replay;
    }
    let replay = last.unwrap();
    let outcome = replay.outcome.clone().unwrap();
    (replay, outcome)
}

/// What the file of an image says of it, the file itself included.
async fn as_foreign(farm: &Farm, image: &v1::Image) -> v1::ForeignImage {
    let request = v1::GetRecipeRequest { image_id: image.id.clone() };
    let recipe_json = farm.jobs().await.get_recipe(request).await.unwrap().into_inner().recipe_json;
    let recipe = Recipe::from_json(&recipe_json).unwrap();
    let png = seedfarm_picture::encode_plain(&picture(&recipe, 0)).unwrap();
    v1::ForeignImage {
        recipe_json,
        pixel_digest: image.pixel_digest.clone(),
        fingerprint_json: None,
        png: Some(png),
    }
}

#[tokio::test]
async fn a_replay_goes_to_another_worker_and_the_same_pixels_are_exact() {
    let (farm, first, image) = with_an_image().await;
    first.credit(1).await;
    let mut second = Worker::connect(&farm, 2).await;
    let replay = create(&farm, Original::ImageId(image.id.clone())).await;
    assert!(replay.outcome.is_none());
    let grant = second.grant().await;
    assert_eq!(replay.job_id, Some(grant.job_id.clone()));
    second.complete(&grant).await;
    let (replay, outcome) = judged(&farm, &replay.id).await;
    assert_eq!(outcome.verdict, "exact");
    assert_eq!(outcome.replay_pixel_digest.as_ref(), Some(&image.pixel_digest));
    assert_eq!(
        (replay.original_worker_id, outcome.replay_worker_id),
        (Some(image.worker_id), Some(second.id))
    );
    assert!(replay.original_fingerprint_json.unwrap().contains("strict"));
    assert!(outcome.replay_fingerprint_json.unwrap().contains("strict"));
    let listed = farm.replays().await.list_replays(v1::ListReplaysRequest { limit: 0 }).await.unwrap();
    assert_eq!(listed.into_inner().replays[0].id, replay.id);
}

#[tokio::test]
async fn without_another_worker_the_first_replays_its_own_image() {
    let (farm, mut first, image) = with_an_image().await;
    first.credit(1).await;
    let replay = create(&farm, Original::ImageId(image.id)).await;
    let grant = first.grant().await;
    first.complete(&grant).await;
    assert_eq!(judged(&farm, &replay.id).await.1.verdict, "exact");
}

#[tokio::test]
async fn other_pixels_in_one_class_are_different_and_the_metrics_say_how_far() {
    let (farm, _first, image) = with_an_image().await;
    let mut liar = Worker::connect(&farm, 2).await;
    liar.shift = 1;
    let replay = create(&farm, Original::ImageId(image.id)).await;
    let grant = liar.grant().await;
    liar.complete(&grant).await;
    let (_, outcome) = judged(&farm, &replay.id).await;
    assert_eq!(outcome.verdict, "different");
    assert_eq!(outcome.pixels, Some(64));
    assert!(outcome.psnr_db.unwrap() > 0.0 && outcome.max_channel.unwrap() >= 1, "{outcome:?}");
}

#[tokio::test]
async fn a_picture_is_replayed_from_its_file_alone() {
    let (farm, _first, image) = with_an_image().await;
    let foreign = as_foreign(&farm, &image).await;
    let mut second = Worker::connect(&farm, 2).await;
    let replay = create(&farm, Original::Foreign(foreign.clone())).await;
    assert_eq!(replay.image_id.as_ref(), Some(&image.id), "the farm knows its own picture");
    let grant = second.grant().await;
    assert_eq!(recipes(&grant)[0].1.canonical(), foreign.recipe_json);
    second.complete(&grant).await;
    assert_eq!(judged(&farm, &replay.id).await.1.verdict, "exact");
}

#[tokio::test]
async fn a_file_whose_pixels_are_not_what_it_says_is_refused() {
    let (farm, _first, image) = with_an_image().await;
    let honest = as_foreign(&farm, &image).await;
    let mut replays = farm.replays().await;
    let mut refused = async |foreign| {
        let request = v1::CreateReplayRequest { original: Some(Original::Foreign(foreign)) };
        error::reason_of(&replays.create_replay(request).await.unwrap_err()).unwrap()
    };
    let edited = v1::ForeignImage { pixel_digest: "00".repeat(32), ..honest.clone() };
    assert_eq!(refused(edited).await, "WRONG_DIGEST");
    let broken = v1::ForeignImage { png: Some(b"no picture".to_vec()), ..honest.clone() };
    assert_eq!(refused(broken).await, "NOT_A_PICTURE");
    let noise = v1::ForeignImage { recipe_json: "not JSON".into(), ..honest };
    assert_eq!(refused(noise).await, "NOT_A_RECIPE");
}

#[tokio::test]
async fn what_cannot_be_rendered_is_unverifiable_at_once_and_says_what_is_gone() {
    let (farm, _first, image) = with_an_image().await;
    let known = as_foreign(&farm, &image).await;
    let recipe = Recipe::from_json(&known.recipe_json).unwrap();
    let mut elsewhere = recipe.clone();
    elsewhere.template.model = manifest("unheard-of").components;
    let strange = v1::ForeignImage { recipe_json: elsewhere.canonical(), png: None, ..known.clone() };
    let replay = create(&farm, Original::Foreign(strange)).await;
    let outcome = replay.outcome.unwrap();
    assert_eq!((outcome.verdict.as_str(), replay.job_id), ("unverifiable", None));
    let model = elsewhere.template.model_digest().to_string();
    assert!(outcome.missing.unwrap().contains(&model));
    let newer = known.recipe_json.replacen('{', r#"{"aura": "warm","#, 1);
    let strange = v1::ForeignImage { recipe_json: newer, ..known };
    let outcome = create(&farm, Original::Foreign(strange)).await.outcome.unwrap();
    assert_eq!(outcome.verdict, "unverifiable");
    assert!(outcome.missing.unwrap().contains("aura"));
}

#[tokio::test]
async fn a_replay_that_fails_for_good_is_unverifiable_with_the_error() {
    let (farm, mut first, image) = with_an_image().await;
    first.credit(1).await;
    let replay = create(&farm, Original::ImageId(image.id)).await;
    for _ in 0..3 {
        let grant = first.grant().await;
        first.fail(&grant, v1::FailureClass::Task, "the weights are cursed").await;
        first.settled().await;
        first.credit(1).await;
    }
    let (_, outcome) = judged(&farm, &replay.id).await;
    assert_eq!(outcome.verdict, "unverifiable");
    assert_eq!(outcome.missing.as_deref(), Some("the weights are cursed"));
}

#[tokio::test]
async fn a_replay_whose_coordinator_died_before_judging_is_judged_at_the_next_start() {
    let (mut farm, _first, image) = with_an_image().await;
    let mut second = Worker::connect(&farm, 2).await;
    let replay = create(&farm, Original::ImageId(image.id)).await;
    let grant = second.grant().await;
    let complete = second.render(&grant).await;
    farm.kill();
    store_by_hand(&farm, &grant, &complete).await;
    farm.begin().await;
    assert_eq!(judged(&farm, &replay.id).await.1.verdict, "exact");
}

/// Stores a completion as a coordinator would that dies right after.
async fn store_by_hand(farm: &Farm, grant: &v1::Grant, complete: &v1::Complete) {
    let store: Store = farm.store().await;
    let reign = loop {
        match store.take_over().await {
            Err(seedfarm_store::StoreError::Held { .. }) => {}
            taken => break taken.unwrap(),
        }
    };
    let told = serde_json::from_str(&complete.fingerprint_json).unwrap();
    let (image, (_, recipe)) = (&complete.images[0], recipes(grant).remove(0));
    let completion = Completion {
        fence: Fence::from(grant.fence.unwrap()),
        job: grant.job_id.parse().unwrap(),
        worker: hello(2).worker_id.parse().unwrap(),
        fingerprint: store.put_fingerprint(&told).await.unwrap(),
        images: vec![NewResult {
            index: 0,
            seed: recipe.seed,
            template: recipe.template.digest(),
            recipe: recipe.digest(),
            pixels: image.pixel_digest.parse().unwrap(),
            artifact: image.artifact_digest.parse().unwrap(),
            artifact_bytes: image.artifact_bytes,
            duration_ms: 1,
            warnings: Vec::new(),
        }],
        failure: None,
    };
    let settled = store.complete(reign.epoch(), &[completion]).await.unwrap();
    assert!(settled.progress[0].finished);
    reign.end().await;
}
