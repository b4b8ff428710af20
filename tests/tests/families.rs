//! The families of models on a farm: Stable Diffusion 1 with a ControlNet and a learned word, XL, and a model
//! that fills in pictures. Each image proves itself by replay.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::path::PathBuf;

use seedfarm_picture::{Picture, encode_plain};
use seedfarm_tests::{Farm, program};
use serde_json::Value;

/// A farm whose worker has the small random models, ControlNets, LoRAs and learned words.
fn farm() -> Farm {
    let mut farm = Farm::start(0);
    let parity = program::root().join("tests/parity");
    farm.add_worker(&[&parity.join("models"), &parity.join("adapters")]);
    farm
}

/// A picture file of 64 x 64 pixels: black on the left, white on the right.
fn halves(farm: &Farm) -> PathBuf {
    let pixel = |at: usize| if at % 64 < 32 { [0; 3] } else { [255; 3] };
    let rgb = (0..64 * 64).flat_map(pixel).collect();
    let path = farm.dir().join("halves.png");
    std::fs::write(&path, encode_plain(&Picture::new(64, 64, rgb).unwrap()).unwrap()).unwrap();
    path
}

fn submit(farm: &Farm, model: &str, more: &[&str]) -> program::Outcome {
    let args = ["submit", "--prompt", "an astronaut on the moon", "--seed", "7", "--steps", "4", "--json"];
    let size = ["--width", "64", "--height", "64", "--model", model];
    program::run(farm.command().args(args).args(size).args(more), b"")
}

/// Makes two images, proves the second by replay and answers their pixels.
fn proven(farm: &Farm, model: &str, more: &[&str]) -> [String; 2] {
    let submitted = submit(farm, model, &[more, &["--count", "2"]].concat()).json();
    let job = submitted["job"]["id"].as_str().unwrap().to_owned();
    let end = farm.wait_final(&job);
    assert_eq!(end["done"], 2, "{}\n{}", farm.json(["job", &job]), farm.logs());
    let replay: Value = farm.json(["replay", &format!("{job}/1")]);
    assert_eq!(replay["outcome"]["verdict"], "exact", "{replay}");
    let digests = farm.digests(&job);
    [digests[&0].clone(), digests[&1].clone()]
}

#[test]
fn images_that_follow_a_picture_or_know_a_learned_word_are_exact_on_replay() {
    let farm = farm();
    let picture = halves(&farm);
    let plain = proven(&farm, "tiny-sd1", &[]);
    let control = format!("tiny-control-sd1:0.8=0.9={}", picture.display());
    let refused = submit(&farm, "tiny-sd1", &["--control", &control]);
    assert_ne!(refused.code, 0, "a path that does not exist was taken: {refused:#?}");
    let control = format!("tiny-control-sd1:0.8={}", picture.display());
    let followed = proven(&farm, "tiny-sd1", &["--control", &control]);
    let word = ["--embedding", "embedding-params", "--negative-prompt", "embedding-params"];
    let learned = proven(&farm, "tiny-sd1", &word);
    for (index, pixels) in plain.iter().enumerate() {
        assert_ne!(&followed[index], pixels, "the ControlNet changed nothing");
        assert_ne!(&learned[index], pixels, "the learned word changed nothing");
    }
    let misfit = submit(&farm, "tiny-sdxl", &["--embedding", "embedding-params"]).json();
    let job = misfit["job"]["id"].as_str().unwrap().to_owned();
    let end = farm.wait_final(&job);
    assert_eq!((&end["done"], &end["failed"]), (&0.into(), &1.into()), "{end}");
    let dead = farm.json(["job", &job])["dead"][0]["error"].as_str().unwrap().to_owned();
    assert!(dead.contains("embedding-params.safetensors"), "{dead}");
}

#[test]
fn the_large_model_and_one_that_fills_in_pictures_are_exact_on_replay() {
    let farm = farm();
    let large = proven(&farm, "tiny-sdxl", &["--sampler", "dpmpp_2m", "--schedule", "karras"]);
    assert_ne!(large, proven(&farm, "tiny-sdxl", &["--sampler", "dpmpp_2m"]));
    let refused = submit(&farm, "tiny-inpaint", &[]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("fills in pictures"), "{refused:#?}");
    let picture = halves(&farm);
    let picture = picture.to_str().unwrap();
    let filled = proven(&farm, "tiny-inpaint", &["--source", picture, "--mask", picture]);
    assert_ne!(filled[0], filled[1], "the seed changed nothing");
}
