//! Latent consistency sampling (Luo et al. 2023, arXiv:2310.04378): denoise, and go back to less noise.
//!
//! Reference: diffusers' `LCMScheduler.step` without clipping or thresholding.

use super::alphas::{Alphas, Parts};
use super::call::{draw_of, one_a_step};
use super::{Call, Sampling, Settings, State, weigh};
use crate::Result;

/// The data's deviation in the boundary condition.
const SIGMA_DATA: f64 = 0.5;

/// The factors of one step.
#[derive(Debug, Clone, Copy)]
struct Factors {
    now: Parts,
    /// Of the denoised latents and the latents themselves, by the boundary condition.
    out: f32,
    skip: f32,
    /// The parts at the next timestep, if there is one.
    next: Option<Parts>,
}

/// Latent consistency sampling for one schedule.
pub(super) struct Lcm {
    steps: Vec<Factors>,
    calls: Vec<Call>,
}

impl Lcm {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let alphas = Alphas::new(settings)?;
        let timesteps = settings.timesteps;
        let step = |(index, timestep): (usize, &f64)| {
            let scaled = timestep * settings.schedule.lcm.timestep_scaling;
            let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
            Ok(Factors {
                now: alphas.parts(*timestep)?,
                out: (scaled / square.sqrt()) as f32,
                skip: (SIGMA_DATA * SIGMA_DATA / square) as f32,
                next: timesteps.get(index + 1).map(|next| alphas.parts(*next)).transpose()?,
            })
        };
        let mut calls = one_a_step(settings, true);
        for call in &mut calls {
            call.draw = if call.step + 1 < timesteps.len() { draw_of(call.step, 0, 1) } else { None };
        }
        Ok(Self { steps: timesteps.iter().enumerate().map(step).collect::<Result<_>>()?, calls })
    }

    fn factors(&self, call: usize) -> Factors {
        self.steps[self.calls[call].step]
    }
}

impl Sampling for Lcm {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        let factors = self.factors(call);
        let denoised = factors.now.denoised(latents, prediction);
        weigh([(factors.out, &denoised), (factors.skip, latents)])
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        if call == self.calls.len() { clean.to_vec() } else { self.factors(call).now.noised(clean, noise) }
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]) {
        let denoised = self.denoised(call, &state.latents, prediction);
        state.latents = match self.factors(call).next {
            None => denoised,
            Some(next) => weigh([(next.image, &denoised), (next.noise, noise)]),
        };
    }
}
