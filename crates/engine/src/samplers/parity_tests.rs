//! Timesteps, noise levels and latents after each call against diffusers, on a network that is one line of
//! arithmetic; `tests/parity/samplers.py` wrote the references.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use seedfarm_core::sampling::{Resolved, SigmaSchedule, Spacing};
use seedfarm_core::{NoiseSchedule, NoiseSource, Sampler, digest};
use serde_json::Value;

use super::*;
use crate::config::{ConfigFile, scheduler};
use crate::noise::NoiseStream;
use crate::source::Family;

/// Of latents, over their largest value; diffusers computes its coefficients in f32.
const LARGEST_RELATIVE_ERROR: f32 = 1e-4;
/// The same where latents begin at a noise level above 1000: an f32 of that size is rounded to a thousandth
/// and more, of which the picture's latents, of size 1, keep their part.
const LARGEST_RELATIVE_ERROR_FROM_ABOVE: f32 = 5e-4;
/// Of points between timesteps, which diffusers takes from logarithms that numpy computes in f32.
const LARGEST_TIMESTEP_ERROR: f64 = 1e-4;
const SHAPE: usize = 8;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/golden")
}

fn references() -> (Value, HashMap<String, Tensor>) {
    let json = serde_json::from_slice(&std::fs::read(golden().join("samplers.json")).unwrap()).unwrap();
    let tensors =
        candle_core::safetensors::load(golden().join("samplers.safetensors"), &Device::Cpu).unwrap();
    (json, tensors)
}

/// A case of `samplers.json` and what diffusers made of it.
struct Case<'a> {
    spec: &'a Value,
    index: usize,
    tensors: &'a HashMap<String, Tensor>,
    seed: u64,
}

impl Case<'_> {
    fn name(&self) -> &str {
        self.spec["name"].as_str().unwrap()
    }

    fn sampler(&self) -> Sampler {
        Sampler::from_name(self.spec["sampler"].as_str().unwrap()).unwrap()
    }

    fn steps(&self) -> u32 {
        self.spec["steps"].as_u64().unwrap() as u32
    }

    fn start(&self) -> usize {
        self.spec["more"]["start"].as_u64().unwrap_or(0) as usize
    }

    /// The schedule as the engine reads it from diffusers' own configuration.
    fn schedule(&self) -> NoiseSchedule {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler_config.json");
        std::fs::write(&path, self.spec["config"].to_string()).unwrap();
        let read = scheduler::read(&ConfigFile::read(&path).unwrap(), Family::StableDiffusion).unwrap();
        assert_eq!(read.sampler, self.sampler(), "{}", self.name());
        let asked =
            self.spec["more"]["sigma_schedule"].as_str().map(|name| SigmaSchedule::from_name(name).unwrap());
        let schedule = read.noise_schedule.in_force(read.sampler, asked);
        if asked.is_some_and(|asked| asked.as_str().starts_with("ays")) {
            return schedule;
        }
        assert_eq!(schedule, read.noise_schedule, "{}", self.name());
        schedule
    }

    fn reference(&self, name: &str) -> Option<Vec<f64>> {
        let tensor = self.tensors.get(&format!("{}/{name}", self.index))?;
        Some(tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F64).unwrap().to_vec1().unwrap())
    }

    fn settings<'a>(&self, schedule: &'a NoiseSchedule, resolved: &'a Resolved) -> Settings<'a> {
        Settings {
            sampler: self.sampler(),
            schedule,
            timesteps: &resolved.timesteps,
            sigmas: resolved.sigmas.as_deref(),
            eta: self.spec["more"]["eta"].as_f64(),
            start: self.start(),
        }
    }

    /// Latents before the first call and after each, side by side.
    fn latents(&self, sampler: &dyn Sampling) -> Vec<f32> {
        let mut stream = NoiseStream::new(NoiseSource::Philox, self.seed);
        let mut draw = |number: u32| {
            let mut noise = vec![0.0; SHAPE];
            stream.draw(number, &mut noise).unwrap();
            noise
        };
        let first = draw(0);
        let first = if self.start() > 0 {
            let clean: Vec<f32> = (0..SHAPE).map(|i| (i as f64 / 3.5 - 1.0) as f32).collect();
            sampler.noised(0, &clean, &first)
        } else {
            first.into_iter().map(|unit| unit * sampler.initial_scale()).collect()
        };
        let mut state = State::new(first);
        let mut after = state.latents.clone();
        for (call, plan) in sampler.calls().iter().enumerate() {
            let prediction = network(&sampler.model_input(call, &state.latents), plan.timestep);
            let noise = plan.draw.map_or_else(Vec::new, &mut draw);
            sampler.advance(call, &mut state, &prediction, &noise);
            after.extend(&state.latents);
        }
        after
    }
}

/// The network of `samplers.py`.
pub(super) fn network(x: &[f32], timestep: f64) -> Vec<f32> {
    let slope = (0.9 - 0.3 * (timestep / 1000.0)) as f32;
    let before = |index: usize| x[(index + x.len() - 1) % x.len()];
    let value = |(index, x): (usize, &f32)| x * slope / (1.0 + 0.05 * x * x) + 0.1 * before(index) - 0.02;
    x.iter().enumerate().map(value).collect()
}

fn check_each(check: impl Fn(&Case<'_>) -> Option<String>) {
    let (json, tensors) = references();
    let seed = json["seed"].as_str().unwrap().parse().unwrap();
    let cases = json["cases"].as_array().unwrap();
    let check = |(index, spec)| {
        let case = Case { spec, index, tensors: &tensors, seed };
        check(&case).map(|fault| format!("{}: {fault}", case.name()))
    };
    let faults: Vec<String> = cases.iter().enumerate().filter_map(check).collect();
    assert!(cases.len() > 200, "{} cases are there", cases.len());
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

/// The largest difference over the largest value.
fn relative_error(ours: &[f32], theirs: &[f64]) -> f32 {
    let largest = theirs.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let apart = ours.iter().zip(theirs).fold(0.0_f64, |most, (a, b)| most.max((f64::from(*a) - b).abs()));
    (apart / largest) as f32
}

#[test]
fn latents_after_each_call_are_those_of_diffusers() {
    check_each(|case| {
        let schedule = case.schedule();
        let resolved = schedule.resolve(case.sampler(), case.steps()).unwrap();
        let sampler = sampling(&case.settings(&schedule, &resolved)).unwrap();
        let (ours, theirs) = (case.latents(sampler.as_ref()), case.reference("latents").unwrap());
        if ours.len() != theirs.len() {
            return Some(format!("{} calls, not {}", ours.len() / SHAPE - 1, theirs.len() / SHAPE - 1));
        }
        let pairs = ours.chunks(SHAPE).zip(theirs.chunks(SHAPE)).enumerate();
        let most = if sampler.initial_scale() > 1000.0 {
            LARGEST_RELATIVE_ERROR_FROM_ABOVE
        } else {
            LARGEST_RELATIVE_ERROR
        };
        let mut errors = pairs.map(|(call, (ours, theirs))| (call, relative_error(ours, theirs)));
        errors
            .find(|(_, error)| error.is_nan() || *error >= most)
            .map(|(call, error)| format!("{error} after {call} calls"))
    });
}

#[test]
fn timesteps_of_each_call_are_those_of_diffusers() {
    check_each(|case| {
        let schedule = case.schedule();
        let resolved = schedule.resolve(case.sampler(), case.steps()).unwrap();
        let sampler = sampling(&case.settings(&schedule, &resolved)).unwrap();
        let ours: Vec<f64> = sampler.calls().iter().map(|call| call.timestep).collect();
        let mut theirs = case.reference("timesteps").unwrap();
        theirs.drain(..theirs.len() - ours.len());
        let differ = |(a, b): (&f64, &f64)| {
            let most = if b.fract() == 0.0 { 0.0 } else { LARGEST_TIMESTEP_ERROR };
            a.is_nan() || (a - b).abs() > most
        };
        ours.iter().zip(&theirs).any(differ).then(|| format!("{ours:?} {theirs:?}"))
    });
}

#[test]
fn chosen_noise_levels_are_those_of_diffusers() {
    check_each(|case| {
        let resolved = case.schedule().resolve(case.sampler(), case.steps()).unwrap();
        let ours = resolved.sigmas?;
        let mut theirs = case.reference("sigmas").unwrap();
        // Samplers of the second order have the inner ones twice there.
        if theirs.len() > ours.len() {
            theirs =
                (0..ours.len()).map(|i| theirs[(2 * i).saturating_sub(1).min(theirs.len() - 1)]).collect();
        }
        let ulps = |a: f64, b: f64| ((a as f32).to_bits() as i64 - (b as f32).to_bits() as i64).abs();
        let apart = ours.iter().zip(&theirs).map(|(a, b)| ulps(*a, *b)).max().unwrap();
        // The last bits of torch's alphas are its vector units'.
        (apart > 2).then(|| format!("{apart} ulp: {ours:?} {theirs:?}"))
    });
}

#[test]
fn timesteps_for_many_numbers_of_steps_are_exactly_those_of_diffusers() {
    let (json, _) = references();
    let grids = json["grids"].as_array().unwrap();
    assert!(grids.len() > 500);
    for grid in grids {
        let sampler = Sampler::from_name(grid["sampler"].as_str().unwrap()).unwrap();
        let spacing: Spacing = serde_json::from_value(grid["spacing"].clone()).unwrap();
        let schedule = NoiseSchedule { spacing, ..NoiseSchedule::default() };
        let timesteps = schedule.timesteps(sampler, grid["steps"].as_u64().unwrap() as u32).unwrap();
        let bytes: Vec<u8> = timesteps.iter().flat_map(|t| t.to_le_bytes()).collect();
        let ours = seedfarm_core::ArtifactDigest::from_bytes(digest::sha256(&bytes)).to_string();
        assert_eq!(ours, grid["sha256"].as_str().unwrap(), "{grid} {timesteps:?}");
    }
}

#[test]
fn rescaled_guidance_is_that_of_diffusers() {
    let (json, tensors) = references();
    for (index, amount) in json["rescale"].as_array().unwrap().iter().enumerate() {
        let values = |name: &str| {
            tensors[&format!("rescale/{index}/{name}")].flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let ours = rescale(&values("guided"), &values("prompted"), amount.as_f64().unwrap());
        let theirs: Vec<f64> = values("rescaled").into_iter().map(f64::from).collect();
        assert!(relative_error(&ours, &theirs) < 1e-6, "{amount}");
    }
}
