//! Strict images, bit for bit.
//!
//! The proof: `tests/parity/golden/strict.json` was written by `tests/parity/strict_twin.py`, which follows
//! `docs/DETERMINISM.md` in numpy and shares no code with the engine. Whatever the instruction set, the
//! number of threads and the neighbours in a batch, the engine must give the twin's latents and pixels.
//!
//! The tripwire: three digests of the built-in model, written down when they were released. They prove
//! nothing that the twin does not; they only keep engine and twin from moving together unnoticed.
//!
//! A change here is a change of every recipe's pixels. It raises the engine's revision and is listed under
//! Pixels in CHANGELOG.md, or it is a fault.

use std::sync::{Mutex, PoisonError};

use seedfarm_core::{Numerics, Recipe, Sampler, digest};
use seedfarm_engine::{DeviceSpec, ENGINE_REVISION, Model};
use seedfarm_numerics::Isa;
use serde_json::Value;

use crate::support::{Traces, emoji_starter, recipe, repository, tiny, traces};

const MODELS: [&str; 3] = ["tiny-sd1", "tiny-sd2", "emoji-starter"];
/// Of the best instruction set; the others run with the third alone.
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// A recipe and what the twin made of it.
struct Case {
    name: String,
    /// Cases of one batch go through the engine together.
    batch: Option<String>,
    recipe: Recipe,
    latents: String,
    pixels: String,
}

/// The cases of one model, with the noise schedule and timesteps that the twin wrote: nothing of a recipe
/// but the digests of the model's files is taken from the engine.
fn cases(model: &Model, name: &str) -> Vec<Case> {
    let file = std::fs::read(repository().join("tests/parity/golden/strict.json")).expect("it is committed");
    let all: Vec<Value> = serde_json::from_slice(&file).expect("it is a list");
    all.iter().filter(|case| case["model"] == name).map(|case| read_case(model, case)).collect()
}

fn read_case(model: &Model, case: &Value) -> Case {
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    let side = |key: &str| case[key].as_u64().expect("a whole number") as u32;
    let seed = text("seed").parse().expect("a seed");
    let mut recipe = recipe(model.manifest(), Numerics::Strict, &text("prompt"), seed);
    let template = &mut recipe.template;
    template.negative_prompt = text("negative_prompt");
    template.guidance = case["guidance"].as_f64().expect("a number");
    (template.width, template.height) = (side("width"), side("height"));
    template.sampler = Sampler::from_name(&text("sampler")).expect("a sampler");
    template.noise_schedule = serde_json::from_value(case["noise_schedule"].clone()).expect("a schedule");
    template.timesteps = serde_json::from_value(case["timesteps"].clone()).expect("timesteps");
    Case {
        name: text("name"),
        batch: case["batch"].as_str().map(str::to_owned),
        recipe,
        latents: text("latents_sha256"),
        pixels: text("pixels_sha256"),
    }
}

/// Renders the cases in one call and holds each against the twin.
#[track_caller]
fn check(model: &Model, cases: &[&Case], how: &str) {
    let recipes: Vec<Recipe> = cases.iter().map(|case| case.recipe.clone()).collect();
    for (case, traces) in cases.iter().zip(traces(model, &recipes)) {
        assert_eq!(latents_digest(&traces), case.latents, "latents of {}, {how}", case.name);
        assert_eq!(traces.pixels.to_string(), case.pixels, "pixels of {}, {how}", case.name);
    }
}

fn latents_digest(traces: &Traces) -> String {
    let bytes: Vec<u8> = traces.latents.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    seedfarm_core::ArtifactDigest::from_bytes(digest::sha256(&bytes)).to_string()
}

/// Every case alone, and those of a batch together, forwards and backwards.
fn check_alone_and_together(model: &Model, cases: &[Case], how: &str) {
    for case in cases {
        check(model, &[case], how);
    }
    let mut batches: Vec<&str> = cases.iter().filter_map(|case| case.batch.as_deref()).collect();
    batches.dedup();
    assert!(!batches.is_empty(), "the twin wrote batches");
    for batch in batches {
        let mut together: Vec<&Case> =
            cases.iter().filter(|case| case.batch.as_deref() == Some(batch)).collect();
        assert!(together.len() > 1, "{batch} is a batch of one");
        check(model, &together, &format!("{how}, together"));
        together.reverse();
        check(model, &together, &format!("{how}, together, backwards"));
    }
}

/// Runs `check` under each instruction set of this processor. The choice is the whole process's: the tests
/// beside this one must not notice, and those of this file take turns.
fn under_each_isa(mut check: impl FnMut(Isa)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for isa in Isa::supported() {
        Isa::force(Some(isa)).expect("this processor has it");
        check(isa);
    }
    Isa::force(None).expect("the best is there");
}

fn load(name: &str) -> Model {
    let folder = if name == "emoji-starter" { emoji_starter() } else { tiny(name) };
    Model::load(&folder, &DeviceSpec::Cpu, Numerics::Strict, 1).expect("the model loads")
}

fn has_the_bits_of_the_twin(name: &str) {
    let mut model = load(name);
    let cases = cases(&model, name);
    under_each_isa(|isa| {
        let all = if isa == Isa::best() { &THREADS[..] } else { &THREADS[2..3] };
        for &threads in all {
            seedfarm_numerics::always_split(true);
            model.set_threads(threads).expect("threads start");
            check_alone_and_together(&model, &cases, &format!("{isa}, {threads} threads"));
        }
    });
}

#[test]
fn heads_in_one_number_and_odd_levels_have_the_bits_of_the_specification() {
    has_the_bits_of_the_twin("tiny-sd1");
}

#[test]
fn velocity_prediction_and_deep_transformers_have_the_bits_of_the_specification() {
    has_the_bits_of_the_twin("tiny-sd2");
}

#[test]
fn the_twin_covers_every_sampler_with_and_without_guidance_on_every_model() {
    for name in MODELS {
        let cases = cases(&load(name), name);
        for sampler in Sampler::ALL {
            let mut of_sampler = cases.iter().filter(|case| case.recipe.template.sampler == sampler);
            assert!(of_sampler.next().is_some(), "{name} has no case of {sampler:?}");
        }
        for guided in [false, true] {
            assert!(cases.iter().any(|case| (case.recipe.template.guidance > 1.0) == guided), "{name}");
        }
        assert!(cases.iter().any(|case| case.recipe.seed == u64::MAX), "{name} has no case of the last seed");
    }
}

#[test]
fn timesteps_are_chosen_as_the_specification_says() {
    for case in MODELS.iter().flat_map(|name| cases(&load(name), name)) {
        let template = &case.recipe.template;
        let chosen = template.noise_schedule.timesteps(template.sampler, template.steps());
        assert_eq!(chosen.expect("steps are in range"), template.timesteps, "{}", case.name);
    }
}

#[test]
fn the_built_in_model_has_the_bits_of_the_specification() {
    has_the_bits_of_the_twin("emoji-starter");
}

/// The tripwire: pixels of engine revision 1.
const RELEASED: [(&str, &str); 3] = [
    ("emoji-starter/ddim", "9571ab88143dd331142acee99ff8eb6af4154c779cca63052f6706e3c1cd9bbb"),
    ("emoji-starter/euler", "f1b515b6ff437674547b67dcc9b2cebd4c6cb94bdf60e71e202d1eccaa0b66b6"),
    ("emoji-starter/ancestral", "c21d74f29251d518a4b5ccf8bacb99f1db6c192f27b0392e0def9eff1c03eec9"),
];

#[test]
fn released_pixels_have_not_moved() {
    assert_eq!(ENGINE_REVISION, 1, "a new revision pins new digests");
    let cases = cases(&load("emoji-starter"), "emoji-starter");
    for (name, released) in RELEASED {
        let case = cases.iter().find(|case| case.name == name).expect("the twin rendered it");
        assert_eq!(case.pixels, released, "{name}");
    }
}
