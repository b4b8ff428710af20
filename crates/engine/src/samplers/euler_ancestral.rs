//! Euler's method with ancestral noise: each step goes below its noise level and adds fresh noise.
//!
//! Reference: diffusers' `EulerAncestralDiscreteScheduler.step`, and with an eta k-diffusion's
//! `sample_euler_ancestral`.

use seedfarm_core::sampling::FinalSigma;

use super::call::one_a_step;
use super::sigmas::{Sigmas, down_and_up, noised_at};
use super::{Call, Sampling, Settings, State};
use crate::Result;

/// Euler ancestral for one schedule.
pub(super) struct EulerAncestral {
    eta: f64,
    sigmas: Sigmas,
    calls: Vec<Call>,
}

impl EulerAncestral {
    pub fn new(settings: &Settings<'_>, eta: f64) -> Result<Self> {
        let sigmas = Sigmas::new(settings, FinalSigma::Zero)?;
        Ok(Self { eta, sigmas, calls: one_a_step(settings, true) })
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
        self.sigmas.denoised(self.calls[call].step, latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let Some(call) = self.calls.get(call) else { return clean.to_vec() };
        noised_at(self.sigmas.from(call.step), clean, noise)
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]) {
        let step = self.calls[call].step;
        let (sigma, next) = (self.sigmas.from(step), self.sigmas.to(step));
        let (down, up) = down_and_up(f64::from(sigma), f64::from(next), self.eta);
        let (change, up) = (down as f32 - sigma, up as f32);
        let denoised = self.denoised(call, &state.latents, prediction);
        for ((x, denoised), noise) in state.latents.iter_mut().zip(denoised).zip(noise) {
            let derivative = (*x - denoised) / sigma;
            *x = (*x + derivative * change) + noise * up;
        }
    }
}
