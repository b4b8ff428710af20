//! Euler's method with ancestral noise: each step goes below its noise level and adds fresh noise.
//!
//! Reference: diffusers' `EulerAncestralDiscreteScheduler.step`, k-diffusion's `sample_euler_ancestral`.

use seedfarm_core::sampling::Prediction;

use super::call::one_a_step;
use super::schedule::Sigmas;
use super::{Call, Sampling, Settings, State, denoised_at};
use crate::Result;

/// Euler ancestral for one schedule.
pub(super) struct EulerAncestral {
    prediction: Prediction,
    sigmas: Sigmas,
    calls: Vec<Call>,
}

impl EulerAncestral {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        Ok(Self {
            prediction: settings.schedule.prediction,
            sigmas: Sigmas::new(settings.schedule, settings.timesteps)?,
            calls: one_a_step(settings, true),
        })
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

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]) {
        let step = self.calls[call].step;
        let sigma = self.sigmas.from(step);
        let (down, up) = self.down_and_up(step);
        let change = down - sigma;
        let denoised = self.denoised(call, &state.latents, prediction);
        for ((x, denoised), noise) in state.latents.iter_mut().zip(denoised).zip(noise) {
            let derivative = (*x - denoised) / sigma;
            *x = (*x + derivative * change) + noise * up;
        }
    }
}
