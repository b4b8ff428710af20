//! Euler's method (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn).
//!
//! Reference: diffusers' `EulerDiscreteScheduler.step` with `s_churn` 0.

use super::call::one_a_step;
use super::sigmas::{Sigmas, noised_at};
use super::{Call, Sampling, Settings, State};
use crate::Result;

/// Euler's method for one schedule.
pub(super) struct Euler {
    sigmas: Sigmas,
    calls: Vec<Call>,
}

impl Euler {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let sigmas = Sigmas::new(settings, settings.schedule.final_sigma)?;
        Ok(Self { sigmas, calls: one_a_step(settings, false) })
    }
}

impl Sampling for Euler {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn initial_scale(&self) -> f32 {
        self.sigmas.initial()
    }

    fn model_input(&self, call: usize, latents: &[f32]) -> Vec<f32> {
        self.sigmas.model_input(self.calls[call].step, latents)
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        self.sigmas.denoised(self.calls[call].step, latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let Some(call) = self.calls.get(call) else { return clean.to_vec() };
        noised_at(self.sigmas.from(call.step), clean, noise)
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], _noise: &[f32]) {
        let step = self.calls[call].step;
        let sigma = self.sigmas.from(step);
        let change = self.sigmas.to(step) - sigma;
        let denoised = self.denoised(call, &state.latents, prediction);
        for (x, denoised) in state.latents.iter_mut().zip(denoised) {
            let derivative = (*x - denoised) / sigma;
            *x += derivative * change;
        }
    }
}
