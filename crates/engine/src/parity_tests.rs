//! Single calls of the networks against diffusers; `tests/parity/generate.py` wrote the references.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use seedfarm_core::{Numerics, Sampler};
use seedfarm_numerics::philox;
use serde_json::Value;

use crate::adapters::Adapters;
use crate::networks::Networks;
use crate::ops::Ops;
use crate::samplers::{Settings, sampling};
use crate::source::ModelSource;
use crate::{DeviceSpec, read_manifest};

const MODELS: [&str; 3] = ["emoji-starter", "tiny-sd1", "tiny-sd2"];
const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn parity() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

fn folder(model: &str) -> PathBuf {
    if model == "emoji-starter" {
        parity().join("../../models").join(model)
    } else {
        parity().join("models").join(model)
    }
}

fn networks(model: &str, numerics: Numerics) -> Networks {
    let ops = Ops::new(numerics, DeviceSpec::Cpu.open(numerics).unwrap());
    Networks::load(&ModelSource::open(&folder(model)).unwrap(), &Adapters::default(), ops).unwrap()
}

fn golden(model: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(parity().join("golden").join(format!("{model}.safetensors")), &Device::Cpu)
        .unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(parity().join("golden").join(name)).unwrap()).unwrap()
}

/// The largest difference over the largest value.
fn relative_error(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!(ours.dims(), theirs.dims());
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (flat(ours), flat(theirs));
    let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let apart = ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    apart / largest
}

#[test]
fn prompts_become_the_tokens_of_transformers() {
    let tokens = json("tokens.json");
    for model in MODELS {
        let networks = networks(model, Numerics::Fast);
        let tokenizer = &networks.texts[0].tokenizer;
        for (prompt, ids) in
            tokens["prompts"].as_array().unwrap().iter().zip(tokens["ids"][model].as_array().unwrap())
        {
            let ours = tokenizer.tokenize(prompt.as_str().unwrap()).unwrap();
            let theirs: Vec<u32> =
                ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(ours.ids, theirs, "{model} {prompt}");
        }
    }
}

#[test]
fn the_part_of_a_prompt_that_does_not_fit_is_told() {
    let networks = networks("tiny-sd1", Numerics::Fast);
    let tokenizer = &networks.texts[0].tokenizer;
    let prompt = json("tokens.json")["prompts"][5].as_str().unwrap().to_owned();
    // diffusers warns of "red apple , yellow background , lazy dog , brown fox" with 19 tokens.
    assert_eq!(tokenizer.tokenize(&prompt).unwrap().cut_off, CUT_OFF);
    assert_eq!(tokenizer.tokenize("a red apple").unwrap().cut_off, "");
}

const CUT_OFF: &str = "red apple, yellow background, lazy dog, brown fox";

#[test]
fn texts_become_the_embeddings_of_transformers() {
    let tokens = json("tokens.json");
    for (model, numerics) in
        MODELS.into_iter().flat_map(|model| Numerics::ALL.map(|numerics| (model, numerics)))
    {
        let networks = networks(model, numerics);
        let golden = golden(model);
        for (index, prompt) in tokens["prompts"].as_array().unwrap().iter().enumerate() {
            let ours = networks.encode(prompt.as_str().unwrap()).unwrap().hidden;
            let error = relative_error(&ours, &golden[&format!("text/{index}")]);
            assert!(error < LARGEST_RELATIVE_ERROR, "{model} {numerics:?} {prompt}: {error}");
        }
    }
}

#[test]
fn the_first_prediction_of_each_case_is_that_of_diffusers() {
    let cases = json("cases.json");
    for (model, numerics) in
        MODELS.into_iter().flat_map(|model| Numerics::ALL.map(|numerics| (model, numerics)))
    {
        let networks = networks(model, numerics);
        let golden = golden(model);
        for case in cases.as_array().unwrap().iter().filter(|case| case["model"] == model) {
            let name = case["name"].as_str().unwrap().split_once('/').unwrap().1;
            let theirs = &golden[&format!("{name}/first_prediction")];
            let error = relative_error(&first_prediction(&networks, model, case, theirs.dims()), theirs);
            assert!(error < LARGEST_RELATIVE_ERROR, "{model} {numerics:?} {name}: {error}");
        }
    }
}

/// The network's output at the first step, for the batch that diffusers makes of the case.
fn first_prediction(networks: &Networks, model: &str, case: &Value, shape: &[usize]) -> Tensor {
    let schedule = read_manifest(&folder(model)).unwrap().noise_schedule;
    let sampler = Sampler::from_name(case["sampler"].as_str().unwrap()).unwrap();
    let timesteps = schedule.timesteps(sampler, case["steps"].as_u64().unwrap() as u32).unwrap();
    let settings =
        Settings { sampler, schedule: &schedule, timesteps: &timesteps, sigmas: None, eta: None, start: 0 };
    let sampler = sampling(&settings).unwrap();
    let mut latents = vec![0.0; shape[1..].iter().product()];
    philox::standard_normal(case["seed"].as_str().unwrap().parse().unwrap(), 0, &mut latents);
    latents.iter_mut().for_each(|x| *x *= sampler.initial_scale());
    let input = sampler.model_input(0, &latents).repeat(shape[0]);
    let input = Tensor::from_vec(input, shape, &Device::Cpu).unwrap();
    let text = |key: &str| networks.encode(case[key].as_str().unwrap()).unwrap().hidden;
    let texts = match shape[0] {
        1 => text("prompt"),
        _ => Tensor::cat(&[text("negative_prompt"), text("prompt")], 0).unwrap(),
    };
    let keys = networks.unet.text_keys(&texts).unwrap();
    networks.unet.forward(&input, &timesteps[..1], &keys, None, None).unwrap()
}
