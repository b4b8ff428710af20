//! Samplers: from noise to latents, one file each.
//!
//! To add one: name it in `seedfarm_core::Sampler`, write its file here with an implementation of
//! [`Sampling`], and add it to [`sampling`]; `tests/parity` compares it with diffusers.
//!
//! Latents live on the host as plain `f32`. Every coefficient is computed in `f64` from the schedule and
//! rounded once, and the arithmetic on latents is element by element in a written order, so that a
//! sampler gives the same bits on every machine.

mod call;
mod ddim;
mod euler;
mod euler_ancestral;
mod schedule;

use seedfarm_core::sampling::Prediction;
use seedfarm_core::{NoiseSchedule, Sampler};

pub(crate) use self::call::{Call, State};
use crate::{Error, Result};

/// One sampler, ready for a schedule and its timesteps.
///
/// A sampler is a plan of calls to the network. For each call in turn the caller shows the network
/// [`Sampling::model_input`] at the call's timestep and hands the prediction to [`Sampling::advance`].
/// What a sampler has to remember between calls it keeps in the image's [`State`], so that one sampler
/// serves all images of a batch.
pub(crate) trait Sampling: Send + Sync {
    /// The calls, in order: at least one, and the last one of each step ends it.
    fn calls(&self) -> &[Call];

    /// The factor that turns unit noise into the first latents.
    fn initial_scale(&self) -> f32;

    /// What the network is shown at call `call` (from 0) for these latents.
    fn model_input(&self, call: usize, latents: &[f32]) -> Vec<f32>;

    /// The image, as latents, that the network's prediction points at.
    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32>;

    /// A picture's latents with as much of `noise`, unit normal, as there is when call `call` begins; for the
    /// number of calls, with what is left at the end. For pictures to start from, and for what a mask keeps.
    #[expect(dead_code, reason = "for runs that start from a picture")]
    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32>;

    /// Moves one image on. `noise` is the call's draw, as long as the latents, and empty for a call
    /// without one.
    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]);
}

/// What a recipe says of its sampler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// Which sampler.
    pub sampler: Sampler,
    /// The noise schedule.
    pub schedule: &'a NoiseSchedule,
    /// The resolved timesteps, one a step.
    pub timesteps: &'a [f64],
    /// Steps at the beginning that are left out, because there is a picture to start from.
    pub start: usize,
}

/// The sampler that a recipe names.
///
/// Errors: a schedule or a timestep out of range, no step to take.
pub(crate) fn sampling(settings: &Settings<'_>) -> Result<Box<dyn Sampling>> {
    let (steps, start) = (settings.timesteps.len(), settings.start);
    if start >= steps {
        return Err(Error::Recipe(format!("{start} of {steps} steps are left out, so that none is left")));
    }
    Ok(match settings.sampler {
        Sampler::Ddim => Box::new(ddim::Ddim::new(settings)?),
        Sampler::Euler => Box::new(euler::Euler::new(settings)?),
        Sampler::EulerAncestral => Box::new(euler_ancestral::EulerAncestral::new(settings)?),
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
