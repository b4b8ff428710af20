//! DPM-Solver++ for the stochastic equation with a midpoint, as k-diffusion's `sample_dpmpp_sde`.
//!
//! Reference: diffusers' `DPMSolverSDEScheduler.step`. There the noise of a step and of its first half are
//! increments of one Brownian path over the noise level; here too, from two draws a step, one for each
//! half.

use seedfarm_core::sampling::FinalSigma;

use super::call::draw_of;
use super::sigmas::{Sigmas, down_and_up, noised_at, scaled_input};
use super::{Call, Sampling, Settings, State, refused, weigh};
use crate::Result;

/// DPM-Solver++ SDE for one schedule.
pub(super) struct DpmppSde {
    sigmas: Sigmas,
    calls: Vec<Call>,
}

impl DpmppSde {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let sigmas = Sigmas::falling(settings, FinalSigma::Zero)?;
        let mut calls = Vec::new();
        for (step, timestep) in settings.timesteps.iter().enumerate().skip(settings.start) {
            let whole = sigmas.to(step) == 0.0;
            let call = |timestep: f64, half: u32, ends_step: bool| {
                let draw = if whole { None } else { draw_of(step, half, 2) };
                Call { step, timestep, ends_step, draw }
            };
            calls.push(call(*timestep, 0, whole));
            if !whole {
                let middle = middle(sigmas.from(step), sigmas.to(step));
                let timestep = settings.schedule.timesteps_at(&[middle]).map_err(refused)?[0];
                calls.push(call(timestep, 1, true));
            }
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
        let (from, to) = (self.sigmas.from(step), self.sigmas.to(step));
        if self.is_second(call) { middle(from, to) as f32 } else { from }
    }

    /// Towards `denoised` from `before`, from the step's own level down to `to`, with fresh noise.
    fn leap(&self, step: usize, to: f64, before: &[f32], denoised: &[f32], noise: &[f32]) -> Vec<f32> {
        let from = f64::from(self.sigmas.from(step));
        let (down, up) = down_and_up(from, to, 1.0);
        let share = down / from;
        weigh([(share as f32, before), ((1.0 - share) as f32, denoised), (up as f32, noise)])
    }
}

/// The level whose logarithm lies in the middle.
fn middle(from: f32, to: f32) -> f64 {
    (f64::from(from) * f64::from(to)).sqrt()
}

impl Sampling for DpmppSde {
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

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]) {
        let step = self.calls[call].step;
        let denoised = self.denoised(call, &state.latents, prediction);
        let (from, to) = (self.sigmas.from(step), self.sigmas.to(step));
        if to == 0.0 {
            // Euler's step to where no noise is left.
            for (x, denoised) in state.latents.iter_mut().zip(denoised) {
                *x += ((*x - denoised) / from) * (to - from);
            }
            return;
        }
        let middle = middle(from, to);
        if !self.is_second(call) {
            let moved = self.leap(step, middle, &state.latents, &denoised, noise);
            let before = std::mem::replace(&mut state.latents, moved);
            state.kept = vec![before, noise.to_vec()];
            return;
        }
        let (from, to) = (f64::from(from), f64::from(to));
        let share = |part: f64| (part / (from - to)).sqrt() as f32;
        let path = weigh([(share(from - middle), state.newest(0)), (share(middle - to), noise)]);
        state.latents = self.leap(step, to, state.newest(1), &denoised, &path);
    }
}
