//! Samplers: from noise to latents, one file each.
//!
//! To add one: name it in `seedfarm_core::Sampler`, write its file here with an implementation of
//! [`Sampling`], and add it to [`sampling`]; `tests/parity` compares it with diffusers.
//!
//! Latents live on the host as plain `f32`. Every coefficient is computed in `f64` from the schedule and
//! rounded once, and the arithmetic on latents is element by element in a written order, so that a
//! sampler gives the same bits on every machine.

mod ddim;
mod euler;
mod euler_ancestral;
mod schedule;

use seedfarm_core::sampling::Prediction;
use seedfarm_core::{NoiseSchedule, Sampler};

use crate::Result;

/// One sampler, ready for a schedule and its timesteps.
pub(crate) trait Sampling: Send + Sync {
    /// The factor that turns unit noise into the first latents.
    fn initial_scale(&self) -> f32;

    /// What the network is shown at step `step` (from 0) for these latents.
    fn model_input(&self, step: usize, latents: &[f32]) -> Vec<f32>;

    /// The image, as latents, that the network's prediction points at.
    fn denoised(&self, step: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32>;

    /// Whether a step takes fresh noise.
    fn takes_noise(&self) -> bool {
        false
    }

    /// Moves the latents one step on. `noise` is as long as the latents if the sampler takes noise, and
    /// empty otherwise.
    fn step(&self, step: usize, latents: &mut [f32], prediction: &[f32], noise: &[f32]);
}

/// The sampler that a recipe names.
///
/// Errors: a schedule or a timestep out of range.
pub(crate) fn sampling(
    sampler: Sampler,
    schedule: &NoiseSchedule,
    timesteps: &[f64],
) -> Result<Box<dyn Sampling>> {
    Ok(match sampler {
        Sampler::Ddim => Box::new(ddim::Ddim::new(schedule, timesteps)?),
        Sampler::Euler => Box::new(euler::Euler::new(schedule, timesteps)?),
        Sampler::EulerAncestral => Box::new(euler_ancestral::EulerAncestral::new(schedule, timesteps)?),
    })
}

/// The denoised latents of both Euler samplers at noise level `sigma`.
fn denoised_at(sigma: f32, kind: Prediction, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
    let pairs = latents.iter().zip(prediction);
    match kind {
        Prediction::Epsilon => pairs.map(|(x, predicted)| x - sigma * predicted).collect(),
        Prediction::VPrediction => {
            let wide = f64::from(sigma);
            let of_prediction = (-wide / (wide * wide + 1.0).sqrt()) as f32;
            let of_latents = (wide * wide + 1.0) as f32;
            pairs.map(|(x, predicted)| predicted * of_prediction + x / of_latents).collect()
        }
    }
}
