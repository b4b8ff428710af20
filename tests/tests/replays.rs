//! An image is rendered again from its id, and from its file alone on another farm.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::path::{Path, PathBuf};

use seedfarm_core::{ComponentDigest, Recipe};
use seedfarm_picture::{Caption, Picture};
use seedfarm_tests::{Farm, look};
use serde_json::Value;

fn one_image(farm: &Farm) -> (String, PathBuf) {
    let prompt = "penguin on a blue background";
    let args = ["submit", "--prompt", prompt, "--model", "emoji-starter", "--seed", "7", "--steps", "6"];
    let job = farm.json(args)["job"]["id"].as_str().unwrap().to_owned();
    farm.wait_final(&job);
    let out = farm.dir().join("pictures");
    let fetched = farm.json(["fetch", &job, "--out", out.to_str().unwrap()]);
    (format!("{job}/0"), fetched["images"][0]["path"].as_str().unwrap().into())
}

/// Writes the file again with other pixels or another recipe, as an editor or a liar would.
fn forge(file: &Path, to: &Path, change: impl FnOnce(&mut Vec<u8>, &mut Recipe)) -> Recipe {
    let metadata = seedfarm_picture::read_metadata(&std::fs::read(file).unwrap()).unwrap();
    let mut recipe = metadata.recipe.expect("a picture of ours has a recipe").expect("and it can be read");
    let mut rgb = look::picture(file).into_rgb();
    change(&mut rgb, &mut recipe);
    let fingerprint = metadata.fingerprint.expect("a picture of ours has a fingerprint");
    let caption = Caption { recipe: &recipe, model_name: "m", fingerprint: &fingerprint, version: "0" };
    let picture = Picture::new(64, 64, rgb).unwrap();
    std::fs::write(to, seedfarm_picture::encode(&picture, &caption).unwrap()).unwrap();
    recipe
}

/// Replays what must not be found to be exact: the exit code says so too.
fn replay_failing(farm: &Farm, file: &Path) -> Value {
    let outcome = farm.run(["replay", file.to_str().unwrap(), "--json"]);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome:#?}"))
}

fn verdict(replay: &Value) -> &str {
    replay["outcome"]["verdict"].as_str().unwrap_or_else(|| panic!("no verdict in {replay}"))
}

#[test]
fn an_image_is_exact_by_its_id_on_another_worker_and_by_its_file_on_another_farm() {
    let farm = Farm::start(2);
    let (id, file) = one_image(&farm);
    let replay = farm.json(["replay", &id]);
    assert_eq!(verdict(&replay), "exact", "{replay}");
    assert_ne!(replay["outcome"]["replay_worker_id"], replay["original_worker_id"], "{replay}");
    assert!(replay["outcome"]["replay_fingerprint"]["engine_revision"].is_u64(), "{replay}");

    let elsewhere = Farm::start(1);
    let replay = elsewhere.json(["replay", file.to_str().unwrap()]);
    assert_eq!(verdict(&replay), "exact", "{replay}");
}

#[test]
fn a_file_whose_pixels_were_changed_is_told_apart() {
    let farm = Farm::start(1);
    let (_, file) = one_image(&farm);
    let changed = farm.dir().join("changed.png");
    forge(&file, &changed, |rgb, _| rgb[0] ^= 0x40);
    let replay = replay_failing(&farm, &changed);
    assert_eq!(verdict(&replay), "different", "{replay}");
    assert_eq!(replay["outcome"]["pixels"], 1, "{replay}");
    assert_eq!(replay["outcome"]["max_channel"], 64, "{replay}");
}

#[test]
fn a_recipe_of_a_model_that_is_gone_is_unverifiable_and_says_which_part() {
    let farm = Farm::start(1);
    let (_, file) = one_image(&farm);
    let lost = farm.dir().join("lost.png");
    let unet = ComponentDigest::of_bytes(b"another unet");
    let recipe = forge(&file, &lost, |_, recipe| {
        recipe.template.model.insert("unet".into(), unet);
    });
    let replay = replay_failing(&farm, &lost);
    assert_eq!(verdict(&replay), "unverifiable", "{replay}");
    let missing = replay["outcome"]["missing"].as_str().unwrap();
    assert!(missing.contains("model"), "{missing}");
    assert!(missing.contains(&recipe.template.model_digest().to_string()), "{missing}");
}
