//! Samplers: from noise to latents, one file each.
//!
//! To add one: name it in `seedfarm_core::Sampler`, write its file here with an implementation of
//! [`Sampling`], and add it to [`sampling`]; `tests/parity` compares it with diffusers.
//!
//! Latents live on the host as plain `f32`. Every coefficient is computed in `f64` from the schedule and
//! rounded once, and the arithmetic on latents is element by element in a written order, so that a
//! sampler gives the same bits on every machine.

mod alphas;
mod call;
mod ddim;
mod ddpm;
mod dpmpp_2m;
mod dpmpp_sde;
mod euler;
mod euler_ancestral;
mod guidance;
mod heun;
mod lcm;
#[cfg(test)]
mod parity_tests;
mod pndm;
#[cfg(test)]
mod refusal_tests;
mod sigmas;
#[cfg(test)]
mod strict_tests;
mod unipc;

use seedfarm_core::{NoiseSchedule, Sampler};

pub(crate) use self::call::{Call, State};
pub(crate) use self::guidance::rescale;
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

    /// The factor that turns unit noise into the first latents: 1 for samplers whose latents keep the variance
    /// of training.
    fn initial_scale(&self) -> f32 {
        1.0
    }

    /// What the network is shown at call `call` (from 0) for these latents.
    /// For samplers whose latents keep the variance of training, the latents themselves.
    fn model_input(&self, _call: usize, latents: &[f32]) -> Vec<f32> {
        latents.to_vec()
    }

    /// The image, as latents, that the network's prediction points at.
    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32>;

    /// A picture's latents with as much of `noise`, unit normal, as there is when call `call` begins; for the
    /// number of calls, the picture's latents alone. For pictures to start from, and for what a mask keeps.
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
    /// The resolved noise levels, one a step and a last one, where they do not follow from the timesteps.
    pub sigmas: Option<&'a [f64]>,
    /// How much of a step's noise is fresh, where it is not the sampler's own default.
    pub eta: Option<f64>,
    /// Steps at the beginning that are left out, because there is a picture to start from.
    pub start: usize,
}

/// The sampler that a recipe names.
///
/// Errors: a schedule, a timestep, a noise level or an eta out of range, no step to take.
pub(crate) fn sampling(settings: &Settings<'_>) -> Result<Box<dyn Sampling>> {
    let (steps, start) = (settings.timesteps.len(), settings.start);
    if start >= steps {
        return Err(Error::Recipe(format!("{start} of {steps} steps are left out, so that none is left")));
    }
    let eta = settings.sampler.eta(settings.eta).map_err(refused)?;
    if settings.sigmas.is_some() && !settings.sampler.takes_sigmas() {
        let sampler = settings.sampler.as_str();
        return Err(Error::Recipe(format!("it has sigmas, but {sampler} works on timesteps")));
    }
    Ok(match settings.sampler {
        Sampler::Ddim => Box::new(ddim::Ddim::new(settings, eta)?),
        Sampler::Ddpm => Box::new(ddpm::Ddpm::new(settings)?),
        Sampler::Euler => Box::new(euler::Euler::new(settings)?),
        Sampler::EulerAncestral => Box::new(euler_ancestral::EulerAncestral::new(settings, eta)?),
        Sampler::Heun => Box::new(heun::Heun::new(settings)?),
        Sampler::Dpmpp2m | Sampler::Dpmpp2mSde => Box::new(dpmpp_2m::Dpmpp2m::new(settings)?),
        Sampler::DpmppSde => Box::new(dpmpp_sde::DpmppSde::new(settings)?),
        Sampler::Lcm => Box::new(lcm::Lcm::new(settings)?),
        Sampler::UniPc => Box::new(unipc::UniPc::new(settings)?),
        Sampler::Pndm => Box::new(pndm::Pndm::new(settings)?),
    })
}

/// What core refuses, as the recipe's fault.
fn refused(error: seedfarm_core::Invalid) -> Error {
    Error::Recipe(error.to_string())
}

/// `terms[0] * weights[0] + terms[1] * weights[1] + ...` for each element, from left to right.
fn weigh<const N: usize>(terms: [(f32, &[f32]); N]) -> Vec<f32> {
    let element = |index: usize| {
        let mut sum = terms[0].0 * terms[0].1[index];
        for (weight, values) in &terms[1..] {
            sum += weight * values[index];
        }
        sum
    };
    (0..terms[0].1.len()).map(element).collect()
}
