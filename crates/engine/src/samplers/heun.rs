//! Heun's method (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn): a step of Euler's, and
//! back again with the mean of the slopes at both ends.
//!
//! Reference: diffusers' `HeunDiscreteScheduler.step`.

use seedfarm_core::sampling::FinalSigma;

use super::sigmas::{Sigmas, noised_at, scaled_input};
use super::{Call, Sampling, Settings, State};
use crate::Result;

/// Heun's method for one schedule.
pub(super) struct Heun {
    sigmas: Sigmas,
    calls: Vec<Call>,
}

impl Heun {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let sigmas = Sigmas::falling(settings, FinalSigma::Zero)?;
        let timesteps = settings.timesteps;
        let mut calls = Vec::new();
        for (step, timestep) in timesteps.iter().enumerate().skip(settings.start) {
            // Where no noise is left there is no slope to take.
            let next = timesteps.get(step + 1).filter(|_| sigmas.to(step) > 0.0);
            calls.push(Call { step, timestep: *timestep, ends_step: next.is_none(), draw: None });
            calls.extend(next.map(|next| Call { step, timestep: *next, ends_step: true, draw: None }));
        }
        Ok(Self { sigmas, calls })
    }

    /// Whether the call is the second of its step.
    fn is_second(&self, call: usize) -> bool {
        call > 0 && self.calls[call - 1].step == self.calls[call].step
    }

    /// The noise level at which the network is called.
    fn level(&self, call: usize) -> f32 {
        let step = self.calls[call].step;
        if self.is_second(call) { self.sigmas.to(step) } else { self.sigmas.from(step) }
    }
}

impl Sampling for Heun {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn initial_scale(&self) -> f32 {
        self.sigmas.initial()
    }

    fn model_input(&self, call: usize, latents: &[f32]) -> Vec<f32> {
        scaled_input(self.level(call), latents)
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        self.sigmas.denoised_at(self.level(call), latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        if call == self.calls.len() { clean.to_vec() } else { noised_at(self.level(call), clean, noise) }
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], _noise: &[f32]) {
        let (step, level) = (self.calls[call].step, self.level(call));
        let change = self.sigmas.to(step) - self.sigmas.from(step);
        let denoised = self.denoised(call, &state.latents, prediction);
        let slope: Vec<f32> =
            state.latents.iter().zip(denoised).map(|(x, denoised)| (x - denoised) / level).collect();
        if !self.is_second(call) {
            let moved = state.latents.iter().zip(&slope).map(|(x, slope)| x + slope * change).collect();
            let before = std::mem::replace(&mut state.latents, moved);
            state.kept = vec![before, slope];
            return;
        }
        let (before, first) = (state.newest(1), state.newest(0));
        state.latents = before
            .iter()
            .zip(first.iter().zip(&slope))
            .map(|(x, (first, second))| x + ((first + second) / 2.0) * change)
            .collect();
    }
}
