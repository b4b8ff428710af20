//! Whole renderings against diffusers, on the same weights and the same noise;
//! `tests/parity/generate.py` wrote the references.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use crate::support::{emoji_starter, psnr_db, recipe, relative_error, repository, sampled};
use candle_core::{Device, Tensor};
use seedfarm_core::{NoiseSource, Numerics, Recipe, Sampler};
use seedfarm_engine::{DeviceSpec, Model, Pictures, Progress, Rendered};
use serde_json::Value;

const LEAST_PSNR_DB: f64 = 60.0;
/// Of latents, after up to 20 steps.
const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn recipe_of(model: &Model, numerics: Numerics, case: &Value) -> Recipe {
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    let number = |key: &str| case[key].as_u64().expect("a whole number") as u32;
    let seed = text("seed").parse().expect("a seed");
    let mut recipe = recipe(model.manifest(), numerics, &text("prompt"), seed);
    recipe.template.negative_prompt = text("negative_prompt");
    recipe.template.guidance = case["guidance"].as_f64().expect("a number");
    recipe.template.width = number("width");
    recipe.template.height = number("height");
    if let Some(noise) = case["noise"].as_str() {
        recipe.template.noise = NoiseSource::from_name(noise).expect("a noise source");
    }
    sampled(recipe, Sampler::from_name(&text("sampler")).expect("a sampler"), number("steps"))
}

/// Renders a case and keeps the latents after each step.
fn render(model: &Model, recipe: Recipe) -> (Rendered, BTreeMap<usize, Vec<f32>>) {
    let mut latents = BTreeMap::new();
    let mut keep = |progress: &Progress<'_>| {
        latents.insert(progress.step, progress.latents(0).to_vec());
        ControlFlow::Continue(())
    };
    let mut images = model.render(&[recipe], &Pictures::default(), &mut keep).expect("the case renders");
    (images.remove(0), latents)
}

/// The files of a model's cases and of their results.
fn files(name: &str) -> (&str, String) {
    match name {
        "tiny-sdxl" => ("sdxl.json", format!("{name}.safetensors")),
        "tiny-distilled" => ("networks.json", "networks.safetensors".to_owned()),
        _ => ("cases.json", format!("{name}.safetensors")),
    }
}

fn cases(file: &str, name: &str) -> Vec<Value> {
    let path = repository().join("tests/parity/golden").join(file);
    let mut values: Value = serde_json::from_slice(&std::fs::read(path).expect("the cases are there"))
        .expect("the cases are JSON");
    let cases = if values.is_array() { values.take() } else { values["cases"].take() };
    let cases = cases.as_array().expect("a list").iter().filter(|case| case["model"] == name);
    cases.cloned().collect()
}

fn agrees_with_diffusers(name: &str) {
    let (specs, results) = files(name);
    agrees(name, specs, &results);
}

fn agrees(name: &str, specs: &str, results: &str) {
    let parity = repository().join("tests/parity");
    let folder = if name == "emoji-starter" { emoji_starter() } else { parity.join("models").join(name) };
    let golden: HashMap<String, Tensor> =
        candle_core::safetensors::load(parity.join("golden").join(results), &Device::Cpu)
            .expect("the references are there");
    for numerics in Numerics::ALL {
        let model = Model::load(&folder, &DeviceSpec::Cpu, numerics, 0).expect("the model loads");
        for case in &cases(specs, name) {
            let (_, key) = case["name"].as_str().and_then(|name| name.split_once('/')).expect("model/case");
            let (image, latents) = render(&model, recipe_of(&model, numerics, case));
            for step in case["latents_after"].as_array().expect("a list") {
                let step = step.as_u64().expect("a step") as usize;
                let error = relative_error(&latents[&step], &golden[&format!("{key}/latents_after_{step}")]);
                assert!(error < LARGEST_RELATIVE_ERROR, "{name}/{key} {numerics:?}, step {step}: {error}");
            }
            let psnr = psnr_db(&image.rgb, &golden[&format!("{key}/rgb")]);
            println!("{name}/{key} {}: {psnr:.1} dB", numerics.as_str());
            assert!(psnr > LEAST_PSNR_DB, "{name}/{key} {numerics:?}: {psnr} dB");
        }
    }
}

#[test]
fn the_built_in_model_draws_what_diffusers_draws() {
    agrees_with_diffusers("emoji-starter");
}

#[test]
fn odd_sizes_and_a_head_count_in_one_number_agree_with_diffusers() {
    agrees_with_diffusers("tiny-sd1");
}

#[test]
fn velocity_prediction_linear_projections_and_a_list_of_heads_agree_with_diffusers() {
    agrees_with_diffusers("tiny-sd2");
}

#[test]
fn every_sampler_draws_what_diffusers_draws_with_guidance() {
    agrees("tiny-sd1", "sampler_images.json", "sampler_images.safetensors");
}

#[test]
fn every_sampler_draws_what_diffusers_draws_under_velocity_prediction() {
    agrees("tiny-sd2", "sampler_images.json", "sampler_images.safetensors");
}

#[test]
fn two_text_encoders_a_pooled_text_and_sizes_agree_with_diffusers() {
    agrees_with_diffusers("tiny-sdxl");
}

#[test]
fn a_network_that_takes_the_guidance_scale_agrees_with_diffusers() {
    agrees_with_diffusers("tiny-distilled");
}
