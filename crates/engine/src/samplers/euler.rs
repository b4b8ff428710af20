//! Euler's method (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn).
//!
//! Reference: diffusers' `EulerDiscreteScheduler.step` with `s_churn` 0.

use seedfarm_core::sampling::Prediction;

use super::call::one_a_step;
use super::schedule::Sigmas;
use super::{Call, Sampling, Settings, State, denoised_at};
use crate::Result;

/// Euler's method for one schedule.
pub(super) struct Euler {
    prediction: Prediction,
    sigmas: Sigmas,
    calls: Vec<Call>,
}

impl Euler {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        Ok(Self {
            prediction: settings.schedule.prediction,
            sigmas: Sigmas::new(settings.schedule, settings.timesteps)?,
            calls: one_a_step(settings, false),
        })
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
        denoised_at(self.sigmas.from(self.calls[call].step), self.prediction, latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let step = self.calls.get(call).map_or(self.sigmas.steps(), |call| call.step);
        self.sigmas.noised(step, clean, noise)
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
