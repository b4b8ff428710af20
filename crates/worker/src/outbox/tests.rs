use seedfarm_core::{Fingerprint, Numerics, Recipe};
use seedfarm_picture::{Caption, Picture, encode};
use tempfile::TempDir;

use super::*;

fn fence(lease: i64) -> Fence {
    Fence { lease: LeaseId(lease), attempt: Attempt(2), epoch: Epoch(3) }
}

fn note() -> LeaseNote {
    LeaseNote { job: format!("job_{:032x}", 7), fingerprint_json: "{}".into() }
}

fn picture_file(index: u64) -> (StoredImage, Vec<u8>) {
    let mut recipe = Recipe::from_json(include_str!("../../../core/src/recipe/golden_recipe.json")).unwrap();
    recipe.seed = index;
    let picture = Picture::new(8, 8, vec![index as u8; 192]).unwrap();
    let fingerprint = Fingerprint {
        numerics: Numerics::Strict,
        engine_revision: 1,
        backend: "cpu".into(),
        architecture: "any".into(),
        precision: "f32".into(),
        libraries: Default::default(),
        device_name: "test".into(),
    };
    let caption = Caption { recipe: &recipe, model_name: "m", fingerprint: &fingerprint, version: "1" };
    let file = encode(&picture, &caption).unwrap();
    let image = StoredImage {
        index,
        recipe: recipe.digest(),
        pixels: picture.digest(),
        artifact: ArtifactDigest::of_bytes(&file),
        bytes: file.len() as u64,
        duration_ms: 10 + index,
        warnings: (0..index % 2).map(|_| "the prompt's end was not read".to_owned()).collect(),
    };
    (image, file)
}

fn open(folder: &TempDir, limit: u64) -> Outbox {
    Outbox::open(folder.path().join("outbox"), limit).unwrap()
}

#[test]
fn what_was_kept_is_found_again_by_the_next_process_until_it_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let outbox = open(&folder, u64::MAX);
    let (first, second) = (picture_file(0), picture_file(11));
    for (image, file) in [&first, &second] {
        outbox.keep(&fence(5), &note(), image, file).unwrap();
    }
    let fault = Fault::new(FailureClass::Task, "poison");
    outbox.end(&fence(5), Some(&fault)).unwrap();
    assert_eq!(outbox.read(&fence(5), &first.0).unwrap(), first.1);

    let next = open(&folder, u64::MAX);
    let expected =
        Leftover { fence: fence(5), note: note(), images: vec![first.0, second.0], fault: Some(fault) };
    assert_eq!(next.leftovers().unwrap(), [expected]);
    next.forget(&fence(5)).unwrap();
    next.forget(&fence(5)).unwrap();
    assert_eq!(open(&folder, u64::MAX).leftovers().unwrap(), []);
}

#[test]
fn a_lease_without_an_end_is_handed_back_with_what_it_has() {
    let folder = TempDir::new().unwrap();
    let (image, file) = picture_file(4);
    open(&folder, u64::MAX).keep(&fence(5), &note(), &image, &file).unwrap();
    let leftovers = open(&folder, u64::MAX).leftovers().unwrap();
    assert_eq!(leftovers[0].images, [image]);
    assert_eq!(leftovers[0].fault.as_ref().unwrap().class, FailureClass::HandedBack);
}

#[test]
fn a_damaged_picture_and_unfinished_files_are_left_out() {
    let folder = TempDir::new().unwrap();
    let outbox = open(&folder, u64::MAX);
    let (whole, damaged) = (picture_file(1), picture_file(2));
    for (image, file) in [&whole, &damaged] {
        outbox.keep(&fence(5), &note(), image, file).unwrap();
    }
    let lease = folder.path().join("outbox/3-5-2");
    let mut bytes = damaged.1;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(lease.join(file_name(&damaged.0)), bytes).unwrap();
    fs::write(lease.join(format!("3-9.png{}", durable::STAGED)), b"half").unwrap();
    fs::create_dir(folder.path().join("outbox/something")).unwrap();
    let leftovers = open(&folder, u64::MAX).leftovers().unwrap();
    assert_eq!(leftovers.len(), 1);
    assert_eq!(leftovers[0].images, [whole.0]);
    assert!(!folder.path().join("outbox/something").exists());
}

#[test]
fn pictures_past_the_limit_are_refused_with_the_numbers_and_room_comes_back() {
    let folder = TempDir::new().unwrap();
    let (image, file) = picture_file(1);
    let outbox = open(&folder, file.len() as u64);
    outbox.keep(&fence(1), &note(), &image, &file).unwrap();
    let error = outbox.keep(&fence(2), &note(), &image, &file).unwrap_err();
    assert!(matches!(error, OutboxError::Full { .. }));
    assert!(error.to_string().contains(&file.len().to_string()), "{error}");
    outbox.forget(&fence(1)).unwrap();
    outbox.keep(&fence(2), &note(), &image, &file).unwrap();
}

#[test]
fn a_lease_that_gave_no_picture_leaves_nothing_on_disk() {
    let folder = TempDir::new().unwrap();
    let outbox = open(&folder, u64::MAX);
    outbox.end(&fence(1), None).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("outbox")).unwrap().count(), 0);
}
