//! DDIM (Song et al. 2020, arXiv:2010.02502, formula 12).
//!
//! Reference: diffusers' `DDIMScheduler.step` without clipping or thresholding.

use super::alphas::{Alphas, Parts, root};
use super::call::one_a_step;
use super::{Call, Sampling, Settings, State};
use crate::Result;

/// The factors of one step.
#[derive(Debug, Clone, Copy)]
struct Factors {
    now: Parts,
    /// Square roots of the image's and the old noise's part after the step.
    next_image: f32,
    next_noise: f32,
    /// Of the fresh noise, where there is any.
    fresh: Option<f32>,
}

/// DDIM for one schedule.
pub(super) struct Ddim {
    steps: Vec<Factors>,
    calls: Vec<Call>,
}

impl Ddim {
    pub fn new(settings: &Settings<'_>, eta: f64) -> Result<Self> {
        let Settings { schedule, timesteps, .. } = *settings;
        let alphas = Alphas::new(settings)?;
        let last = alphas.last(schedule.set_alpha_to_one);
        // Whole division, as diffusers has it, even where the timesteps lie further apart.
        let stride = schedule.train_steps as usize / timesteps.len().max(1);
        let step = |timestep: &f64| {
            let next = alphas.before(*timestep, stride, last)?;
            Ok(Factors::new(alphas.parts(*timestep)?, alphas.at(*timestep)?, next, eta))
        };
        Ok(Self {
            steps: timesteps.iter().map(step).collect::<Result<_>>()?,
            calls: one_a_step(settings, eta > 0.0),
        })
    }

    fn factors(&self, call: usize) -> Factors {
        self.steps[self.calls[call].step]
    }
}

impl Factors {
    fn new(now: Parts, alpha: f32, next: f32, eta: f64) -> Self {
        let rest = f64::from(1.0 - next);
        if eta == 0.0 {
            return Self { now, next_image: root(next), next_noise: root(1.0 - next), fresh: None };
        }
        let (alpha, wide) = (f64::from(alpha), f64::from(next));
        let fresh = eta * (rest / (1.0 - alpha) * (1.0 - alpha / wide)).max(0.0).sqrt();
        let next_noise = (rest - fresh * fresh).max(0.0).sqrt() as f32;
        Self { now, next_image: root(next), next_noise, fresh: Some(fresh as f32) }
    }
}

impl Sampling for Ddim {
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
        for (x, predicted) in state.latents.iter_mut().zip(prediction) {
            let (denoised, noise) = factors.now.split(*x, *predicted);
            *x = factors.next_image * denoised + factors.next_noise * noise;
        }
        let Some(fresh) = factors.fresh else { return };
        for (x, noise) in state.latents.iter_mut().zip(noise) {
            *x += fresh * noise;
        }
    }
}
