//! Strict images, bit for bit.
//!
//! The proof: `tests/parity/golden/strict.json` was written by `tests/parity/strict_twin.py`, which follows
//! `docs/DETERMINISM.md` in numpy and shares no code with the engine. Whatever the instruction set, the
//! number of threads and the neighbours in a batch, the engine must give the twin's latents and pixels.
//!
//! The tripwire: digests of the built-in model, which is too large for the twin. They are our own and only
//! say that nothing moved since; `parity` holds the pictures against diffusers.
//!
//! A change here is a change of every recipe's pixels. It raises the engine's revision and is listed under
//! Pixels in CHANGELOG.md, or it is a fault.

use std::sync::{Mutex, PoisonError};

use seedfarm_core::{Numerics, Recipe, Sampler, digest};
use seedfarm_engine::{DeviceSpec, ENGINE_REVISION, Model, group};
use seedfarm_numerics::Isa;
use serde_json::Value;

use crate::support::{Traces, emoji_starter, recipe, repository, sampled, tiny, traces};

/// Of the best instruction set; the others run with the third alone.
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// A recipe and what the twin made of it.
struct Case {
    name: String,
    /// Cases of one name go through the engine together.
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

fn has_the_bits_of_the_twin(name: &str) {
    let mut model = Model::load(&tiny(name), &DeviceSpec::Cpu, Numerics::Strict, 1).expect("the model loads");
    let cases = cases(&model, name);
    under_each_isa(|isa| {
        let all = if isa == Isa::best() { &THREADS[..] } else { &THREADS[2..3] };
        for &threads in all {
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
fn the_twin_covers_every_sampler_with_and_without_guidance_on_both_models() {
    for name in ["tiny-sd1", "tiny-sd2"] {
        let model = Model::load(&tiny(name), &DeviceSpec::Cpu, Numerics::Strict, 1).expect("the model loads");
        let cases = cases(&model, name);
        assert!(cases.len() >= 8, "{name} has {} cases", cases.len());
        for sampler in Sampler::ALL {
            let mut of_sampler = cases.iter().filter(|case| case.recipe.template.sampler == sampler);
            assert!(of_sampler.next().is_some(), "{name} has no case of {sampler:?}");
        }
        for guided in [false, true] {
            assert!(cases.iter().any(|case| (case.recipe.template.guidance > 1.0) == guided), "{name}");
        }
        assert!(cases.iter().any(|case| case.recipe.seed == u64::MAX), "{name} has no case of the last seed");
        let steps_of = |case: &Case| {
            let template = &case.recipe.template;
            template.noise_schedule.timesteps(template.sampler, template.steps()).expect("in range")
        };
        for case in &cases {
            assert_eq!(steps_of(case), case.recipe.template.timesteps, "timesteps of {}", case.name);
        }
        let recipes: Vec<Recipe> = cases.iter().map(|case| case.recipe.clone()).collect();
        let batched = group(&recipes, 8).into_iter().filter(|group| group.len() > 1).count();
        assert!(batched > 0, "{name} has no cases that fit a batch");
    }
}

/// The tripwire. Made by this test on x86-64 with AVX-512.
const TRIPWIRE: [(Sampler, f64, &str); 3] = [
    (Sampler::Ddim, 3.0, "9571ab88143dd331142acee99ff8eb6af4154c779cca63052f6706e3c1cd9bbb"),
    (Sampler::Euler, 1.0, "f1b515b6ff437674547b67dcc9b2cebd4c6cb94bdf60e71e202d1eccaa0b66b6"),
    (Sampler::EulerAncestral, 3.0, "c21d74f29251d518a4b5ccf8bacb99f1db6c192f27b0392e0def9eff1c03eec9"),
];

#[test]
fn pixels_of_the_built_in_model_have_not_moved() {
    assert_eq!(ENGINE_REVISION, 1, "a new revision pins new digests");
    let model =
        Model::load(&emoji_starter(), &DeviceSpec::Cpu, Numerics::Strict, 2).expect("the model loads");
    under_each_isa(|isa| {
        for (sampler, guidance, pinned) in TRIPWIRE {
            let prompt = "cat face on a blue background";
            let mut recipe =
                sampled(recipe(model.manifest(), Numerics::Strict, prompt, u64::MAX), sampler, 2);
            recipe.template.guidance = guidance;
            let pixels = traces(&model, &[recipe])[0].pixels;
            assert_eq!(pixels.to_string(), pinned, "{sampler:?} on {isa}");
        }
    });
}
