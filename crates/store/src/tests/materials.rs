//! What recipes draw on, and what is known of images: pictures, adapters, needs, warnings.

use seedfarm_core::plan::{Catalogue, PictureSize, plan_with};
use seedfarm_core::settings::LoraRequest;
use seedfarm_core::{AdapterDigest, AdapterKind, AdapterManifest, ArtifactDigest};

use super::{Farm, manifest, new_job, spec_of};
use crate::NewPicture;

fn adapter(name: &str) -> AdapterManifest {
    AdapterManifest {
        name: name.into(),
        kind: AdapterKind::Lora,
        digest: AdapterDigest::of_bytes(name.as_bytes()),
        family: None,
        bytes: 10,
    }
}

#[tokio::test]
async fn pictures_are_stored_once_and_found_by_their_digests() {
    let farm = Farm::new().await;
    let (digest, other) = (ArtifactDigest::of_bytes(b"a"), ArtifactDigest::of_bytes(b"b"));
    let size = PictureSize { width: 16, height: 8 };
    let new = NewPicture { digest, size, bytes: 100 };
    assert!(farm.store.put_picture(&new).await.unwrap());
    assert!(!farm.store.put_picture(&new).await.unwrap(), "it is known");
    let found = farm.store.pictures(&[digest, other]).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(digest, size)]);
}

#[tokio::test]
async fn adapters_are_stored_once_and_changed_manifests_replace_old_ones() {
    let farm = Farm::new().await;
    let (felt, ink) = (adapter("felt"), adapter("ink"));
    farm.store.put_adapters(&[ink.clone(), felt.clone()]).await.unwrap();
    let felt = AdapterManifest { family: Some("stable-diffusion".into()), ..felt };
    farm.store.put_adapters(std::slice::from_ref(&felt)).await.unwrap();
    assert_eq!(farm.store.adapters().await.unwrap(), [felt.clone(), ink.clone()]);
    let stranger = AdapterDigest::of_bytes(b"silk");
    let unknown = farm.store.unknown_adapters(&[felt.digest, stranger, ink.digest]).await.unwrap();
    assert_eq!(unknown, [stranger]);
}

#[tokio::test]
async fn a_job_keeps_the_adapters_of_all_its_lines_each_once() {
    let farm = Farm::new().await;
    let catalogue = Catalogue { adapters: vec![adapter("felt"), adapter("ink")], ..Catalogue::default() };
    let mut spec = spec_of(&["a", "b", "c"], 1);
    let lora = |name: &str| LoraRequest { name: name.into(), weight: 1.0, text_weight: None };
    spec.settings.loras = Some(vec![lora("felt")]);
    spec.prompts[1].settings.loras = Some(vec![lora("ink"), lora("felt")]);
    spec.prompts[2].settings.loras = Some(Vec::new());
    let plan = plan_with(&spec, &manifest("emoji", "v1"), &catalogue).unwrap();
    let inserted = farm.store.insert_job(farm.epoch(), &new_job(1), &plan).await.unwrap();
    let mut expected = vec![adapter("felt").digest, adapter("ink").digest];
    expected.sort_unstable();
    assert_eq!(inserted.job.needs, expected);
    let snapshot = farm.store.snapshot(farm.epoch()).await.unwrap();
    assert_eq!(snapshot.jobs[0].needs, expected);
    assert_eq!(farm.job(2, 1).await.row.needs, []);
}

#[tokio::test]
async fn warnings_are_stored_with_the_images_that_were_accepted_and_with_no_other() {
    let farm = Farm::new().await;
    let job = farm.job(1, 3).await;
    let fence = farm.lease(job.row.id, 0, 2).await;
    let mut completion = farm.completion(&job, fence, [0, 1]);
    completion.images[1].warnings = vec!["first".into(), "x".repeat(5000)];
    let mut again = completion.clone();
    again.images[0].warnings = vec!["too late".into()];
    farm.complete_one(completion).await;
    farm.complete_one(again).await;
    let warnings = farm.store.warnings(job.row.id, 10).await.unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].id.index, warnings[0].texts[0].as_str()), (1, "first"));
    assert_eq!(warnings[0].texts[1].len(), 1000, "a long text is cut");
    let within = farm.store.warnings_in(job.row.id, 0..=0).await.unwrap();
    assert!(within.is_empty());
    assert_eq!(farm.store.warnings_in(job.row.id, 1..=2).await.unwrap()[&1].len(), 2);
}
