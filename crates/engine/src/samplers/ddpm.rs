//! DDPM (Ho et al. 2020, arXiv:2006.11239, formula 7) on the timesteps that are left of training's.
//!
//! Reference: diffusers' `DDPMScheduler.step` with a fixed variance, without clipping or thresholding.

use super::alphas::{Alphas, Parts};
use super::call::{draw_of, one_a_step};
use super::{Call, Sampling, Settings, State, weigh};
use crate::Result;

/// Smallest variance of the fresh noise.
const LEAST_VARIANCE: f64 = 1e-20;

/// The factors of one step.
#[derive(Debug, Clone, Copy)]
struct Factors {
    now: Parts,
    denoised: f32,
    latents: f32,
    fresh: f32,
}

/// DDPM for one schedule.
pub(super) struct Ddpm {
    steps: Vec<Factors>,
    calls: Vec<Call>,
}

impl Ddpm {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let alphas = Alphas::new(settings)?;
        let timesteps = settings.timesteps;
        let large = settings.schedule.solver.large_variance;
        let step = |(index, timestep): (usize, &f64)| {
            let next = timesteps.get(index + 1).map_or(Ok(1.0), |next| alphas.at(*next))?;
            Ok(Factors::new(alphas.parts(*timestep)?, alphas.at(*timestep)?, next, large))
        };
        let mut calls = one_a_step(settings, true);
        for call in &mut calls {
            // Nothing is to be blurred at the cleanest timestep.
            call.draw = if call.timestep > 0.0 { draw_of(call.step, 0, 1) } else { None };
        }
        Ok(Self { steps: timesteps.iter().enumerate().map(step).collect::<Result<_>>()?, calls })
    }

    fn factors(&self, call: usize) -> Factors {
        self.steps[self.calls[call].step]
    }
}

impl Factors {
    fn new(now: Parts, alpha: f32, next: f32, large: bool) -> Self {
        let (alpha, next) = (f64::from(alpha), f64::from(next));
        let ratio = alpha / next;
        let variance = ((1.0 - next) / (1.0 - alpha) * (1.0 - ratio)).max(LEAST_VARIANCE);
        Self {
            now,
            denoised: (next.sqrt() * (1.0 - ratio) / (1.0 - alpha)) as f32,
            latents: (ratio.sqrt() * (1.0 - next) / (1.0 - alpha)) as f32,
            fresh: (if large { 1.0 - ratio } else { variance }).max(0.0).sqrt() as f32,
        }
    }
}

impl Sampling for Ddpm {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        self.factors(call).now.denoised(latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        if call == self.calls.len() { clean.to_vec() } else { self.factors(call).now.noised(clean, noise) }
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]) {
        let factors = self.factors(call);
        let denoised = factors.now.denoised(&state.latents, prediction);
        let moved = [(factors.denoised, &denoised[..]), (factors.latents, &state.latents)];
        state.latents = match self.calls[call].draw {
            None => weigh(moved),
            Some(_) => weigh([moved[0], moved[1], (factors.fresh, noise)]),
        };
    }
}
