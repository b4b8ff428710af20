//! Euler's method (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn).
//!
//! Reference: diffusers' `EulerDiscreteScheduler.step` with `s_churn` 0.

use seedfarm_core::NoiseSchedule;
use seedfarm_core::sampling::Prediction;

use super::schedule::Sigmas;
use super::{Sampling, denoised_at};
use crate::Result;

/// Euler's method for one schedule.
pub(super) struct Euler {
    prediction: Prediction,
    sigmas: Sigmas,
}

impl Euler {
    pub fn new(schedule: &NoiseSchedule, timesteps: &[f64]) -> Result<Self> {
        Ok(Self { prediction: schedule.prediction, sigmas: Sigmas::new(schedule, timesteps)? })
    }
}

impl Sampling for Euler {
    fn initial_scale(&self) -> f32 {
        self.sigmas.initial()
    }

    fn model_input(&self, step: usize, latents: &[f32]) -> Vec<f32> {
        self.sigmas.model_input(step, latents)
    }

    fn denoised(&self, step: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        denoised_at(self.sigmas.from(step), self.prediction, latents, prediction)
    }

    fn step(&self, step: usize, latents: &mut [f32], prediction: &[f32], _noise: &[f32]) {
        let sigma = self.sigmas.from(step);
        let change = self.sigmas.to(step) - sigma;
        let denoised = self.denoised(step, latents, prediction);
        for (x, denoised) in latents.iter_mut().zip(denoised) {
            let derivative = (*x - denoised) / sigma;
            *x += derivative * change;
        }
    }
}
