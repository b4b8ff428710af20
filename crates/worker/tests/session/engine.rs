//! The real engine with the built-in model, on this machine's processor.

use std::path::{Path, PathBuf};

use seedfarm_core::{ModelManifest, Numerics, Recipe, RecipeTemplate};
use seedfarm_engine::{DeviceSpec, Model, Pictures, Unobserved, fingerprint, read_manifest};
use seedfarm_proto::v1;
use seedfarm_worker::{WorkerConfig, WorkerError, run};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, failure, soon};
use crate::recipes::{grant_of, template};
use crate::worker::{config, folder};

const PROMPTS: [&str; 3] = ["cat face on a blue background", "red apple", ""];

fn model_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/emoji-starter")
}

fn template_for(manifest: &ModelManifest, prompt: &str) -> RecipeTemplate {
    RecipeTemplate {
        model: manifest.components.clone(),
        noise_schedule: manifest.noise_schedule.clone(),
        width: 64,
        height: 64,
        timesteps: vec![961.0, 481.0],
        ..template(prompt)
    }
}

/// Pixel digests of the bare engine, image by image.
fn bare_engine(manifest: &ModelManifest) -> Vec<String> {
    let model = Model::load(&model_folder(), &DeviceSpec::Cpu, Numerics::Strict, 1).unwrap();
    let render = |(seed, prompt): (u64, &str)| {
        let recipe: Recipe = template_for(manifest, prompt).with_seed(seed);
        model.render(&[recipe], &Pictures::default(), &mut Unobserved).unwrap()[0].pixel_digest().to_string()
    };
    (0..).zip(PROMPTS).map(render).collect()
}

#[tokio::test]
async fn the_farms_pixels_are_the_bare_engines_whatever_the_batch_and_the_threads() {
    let manifest = read_manifest(&model_folder()).unwrap();
    let expected = bare_engine(&manifest);
    for (batch, threads) in [(1, 1), (3, 2)] {
        let (mut coordinator, folder) = (Coordinator::start().await, folder());
        let config = WorkerConfig {
            model_dirs: vec![model_folder()],
            devices: vec![DeviceSpec::Cpu],
            batch: Some(batch),
            threads,
            ..config(&coordinator, folder.path())
        };
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(run(config, shutdown.clone()));
        let (mut session, hello) = coordinator.welcome().await;
        let strict = fingerprint(&DeviceSpec::Cpu, Numerics::Strict);
        let templates = PROMPTS.map(|prompt| template_for(&manifest, prompt));
        session.grant(grant_of(1, 0..3, &templates)).await;
        let complete = session.complete().await;
        let pixels: Vec<String> = complete.images.iter().map(|image| image.pixel_digest.clone()).collect();
        assert_eq!(pixels, expected, "batch {batch}, {threads} threads");
        assert_eq!(complete.fingerprint_json, seedfarm_core::canonical::to_string(&strict));
        assert!(hello.devices[0].fingerprints_json.contains(&complete.fingerprint_json));

        session.grant(v1::Grant { model_digest: "0".repeat(64), ..grant_of(2, 3..4, &templates[..1]) }).await;
        let (class, error) = failure(&session.complete().await);
        assert_eq!(class, v1::FailureClass::Environment);
        assert!(error.contains("does not have the model 0000"), "{error}");
        drop(session);
        shutdown.cancel();
        soon("the worker's end", worker).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn devices_and_models_that_are_not_there_are_named() {
    let (coordinator, folder) = (Coordinator::start().await, folder());
    let start = |devices, models| {
        let config =
            WorkerConfig { devices, model_dirs: vec![models], ..config(&coordinator, folder.path()) };
        run(config, CancellationToken::new())
    };
    let error = start(vec![DeviceSpec::Cuda(63)], model_folder()).await.unwrap_err();
    assert!(matches!(&error, WorkerError::NoSuchDevice { given, .. } if given == "cuda:63"), "{error}");
    let error = start(vec![DeviceSpec::Cpu], folder.path().join("nothing")).await.unwrap_err();
    assert!(matches!(error, WorkerError::NoModel { .. }) && error.to_string().contains("nothing"));
}
