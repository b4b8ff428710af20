//! Samplers and schedules bit for bit against `tests/parity/strict_samplers.py`, which follows
//! `docs/DETERMINISM.md` in numpy and shares no code with the engine.

use std::path::PathBuf;

use seedfarm_core::{ArtifactDigest, NoiseSource, digest};
use serde_json::Value;

use super::parity_tests::network;
use super::*;
use crate::noise::NoiseStream;

const SHAPE: usize = 8;

fn cases() -> Vec<Value> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/golden/strict_samplers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn sampler(case: &Value) -> Sampler {
    Sampler::from_name(case["sampler"].as_str().unwrap()).unwrap()
}

fn schedule(case: &Value) -> NoiseSchedule {
    serde_json::from_value(case["noise_schedule"].clone()).unwrap()
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    value.as_array().map(|list| list.iter().map(|number| number.as_f64().unwrap()).collect())
}

/// SHA-256 over the latents before the first call and after each, for the noise of this seed.
fn digest_of(case: &Value, seed: u64) -> String {
    let (schedule, timesteps, sigmas) =
        (schedule(case), numbers(&case["timesteps"]), numbers(&case["sigmas"]));
    let sampler = sampling(&Settings {
        sampler: sampler(case),
        schedule: &schedule,
        timesteps: &timesteps.unwrap(),
        sigmas: sigmas.as_deref(),
        eta: case["eta"].as_f64(),
        start: case["start"].as_u64().unwrap() as usize,
    })
    .unwrap();
    let mut stream = NoiseStream::new(NoiseSource::Philox, seed);
    let mut draw = |number: u32| {
        let mut noise = vec![0.0; SHAPE];
        stream.draw(number, &mut noise).unwrap();
        noise
    };
    let first = draw(0);
    let first = if case["start"] == 0 {
        first.into_iter().map(|unit| unit * sampler.initial_scale()).collect()
    } else {
        let clean: Vec<f32> = (0..SHAPE).map(|i| (i as f64 / 3.5 - 1.0) as f32).collect();
        sampler.noised(0, &clean, &first)
    };
    let mut state = State::new(first);
    let mut bytes: Vec<u8> = state.latents.iter().flat_map(|x| x.to_le_bytes()).collect();
    for (call, plan) in sampler.calls().iter().enumerate() {
        let prediction = network(&sampler.model_input(call, &state.latents), plan.timestep);
        let noise = plan.draw.map_or_else(Vec::new, &mut draw);
        sampler.advance(call, &mut state, &prediction, &noise);
        bytes.extend(state.latents.iter().flat_map(|x| x.to_le_bytes()));
    }
    ArtifactDigest::from_bytes(digest::sha256(&bytes)).to_string()
}

#[test]
fn every_sampler_has_the_bits_of_the_specification() {
    let cases = cases();
    let differs =
        |(seed, case): &(u64, &Value)| digest_of(case, *seed) != case["latents_sha256"].as_str().unwrap();
    let wrong: Vec<String> =
        (0..).zip(&cases).filter(differs).map(|(seed, case)| format!("{seed}: {case}")).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    for sampler in Sampler::ALL {
        assert!(cases.iter().filter(|case| case["sampler"] == sampler.as_str()).count() > 10, "{sampler:?}");
    }
}

#[test]
fn schedules_resolve_as_the_specification_says() {
    for case in cases() {
        let resolved =
            schedule(&case).resolve(sampler(&case), case["steps"].as_u64().unwrap() as u32).unwrap();
        assert_eq!(Some(resolved.timesteps), numbers(&case["timesteps"]), "{case}");
        assert_eq!(resolved.sigmas, numbers(&case["sigmas"]), "{case}");
    }
}
