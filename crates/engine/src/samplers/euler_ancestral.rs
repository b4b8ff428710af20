//! Euler's method with ancestral noise: each step goes below its noise level and adds fresh noise.
//!
//! Reference: diffusers' `EulerAncestralDiscreteScheduler.step`, k-diffusion's `sample_euler_ancestral`.

use seedfarm_core::NoiseSchedule;
use seedfarm_core::sampling::Prediction;

use super::schedule::Sigmas;
use super::{Sampling, denoised_at};
use crate::Result;

/// Euler ancestral for one schedule.
pub(super) struct EulerAncestral {
    prediction: Prediction,
    sigmas: Sigmas,
}

impl EulerAncestral {
    pub fn new(schedule: &NoiseSchedule, timesteps: &[f64]) -> Result<Self> {
        Ok(Self { prediction: schedule.prediction, sigmas: Sigmas::new(schedule, timesteps)? })
    }

    /// How far down the step goes and how much noise it adds.
    fn down_and_up(&self, step: usize) -> (f32, f32) {
        let (from, to) = (f64::from(self.sigmas.from(step)), f64::from(self.sigmas.to(step)));
        let up = (to * to * (from * from - to * to) / (from * from)).max(0.0).sqrt();
        let down = (to * to - up * up).max(0.0).sqrt();
        (down as f32, up as f32)
    }
}

impl Sampling for EulerAncestral {
    fn initial_scale(&self) -> f32 {
        self.sigmas.initial()
    }

    fn model_input(&self, step: usize, latents: &[f32]) -> Vec<f32> {
        self.sigmas.model_input(step, latents)
    }

    fn denoised(&self, step: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        denoised_at(self.sigmas.from(step), self.prediction, latents, prediction)
    }

    fn takes_noise(&self) -> bool {
        true
    }

    fn step(&self, step: usize, latents: &mut [f32], prediction: &[f32], noise: &[f32]) {
        let sigma = self.sigmas.from(step);
        let (down, up) = self.down_and_up(step);
        let change = down - sigma;
        let denoised = self.denoised(step, latents, prediction);
        for ((x, denoised), noise) in latents.iter_mut().zip(denoised).zip(noise) {
            let derivative = (*x - denoised) / sigma;
            *x = (*x + derivative * change) + noise * up;
        }
    }
}
