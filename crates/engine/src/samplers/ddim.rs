//! DDIM with eta 0 (Song et al. 2020, arXiv:2010.02502, formula 12).
//!
//! Reference: diffusers' `DDIMScheduler.step` without clipping or thresholding.

use seedfarm_core::sampling::Prediction;

use super::call::one_a_step;
use super::schedule::alphas_cumprod;
use super::{Call, Sampling, Settings, State};
use crate::{Error, Result};

/// The four factors of one step.
#[derive(Debug, Clone, Copy)]
struct Factors {
    /// Square roots of the image's and the noise's part now.
    image: f32,
    noise: f32,
    /// The same after the step.
    next_image: f32,
    next_noise: f32,
}

/// DDIM for one schedule.
pub(super) struct Ddim {
    prediction: Prediction,
    steps: Vec<Factors>,
    calls: Vec<Call>,
}

impl Ddim {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let Settings { schedule, timesteps, .. } = *settings;
        let alphas = alphas_cumprod(schedule)?;
        let last = if schedule.set_alpha_to_one { 1.0 } else { alphas[0] };
        // Whole division, as diffusers has it, even where the timesteps lie further apart.
        let stride = schedule.train_steps as usize / timesteps.len().max(1);
        let steps = timesteps.iter().map(|timestep| {
            let index = whole(*timestep, alphas.len())?;
            let next = index.checked_sub(stride).map_or(last, |next| alphas[next]);
            Ok(Factors::new(alphas[index], next))
        });
        Ok(Self {
            prediction: schedule.prediction,
            steps: steps.collect::<Result<_>>()?,
            calls: one_a_step(settings, false),
        })
    }
}

impl Factors {
    fn new(alpha: f32, next: f32) -> Self {
        let root = |value: f32| f64::from(value).sqrt() as f32;
        Self {
            image: root(alpha),
            noise: root(1.0 - alpha),
            next_image: root(next),
            next_noise: root(1.0 - next),
        }
    }

    /// The denoised value and the noise that one element's prediction stands for.
    fn split(self, kind: Prediction, x: f32, predicted: f32) -> (f32, f32) {
        match kind {
            Prediction::Epsilon => ((x - self.noise * predicted) / self.image, predicted),
            Prediction::VPrediction => {
                (self.image * x - self.noise * predicted, self.image * predicted + self.noise * x)
            }
        }
    }
}

fn whole(timestep: f64, train_steps: usize) -> Result<usize> {
    let index = timestep as usize;
    if index as f64 == timestep && index < train_steps {
        return Ok(index);
    }
    let last = train_steps - 1;
    Err(Error::Recipe(format!(
        "timestep {timestep} is not a whole number from 0 to {last}, which ddim needs"
    )))
}

impl Sampling for Ddim {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn initial_scale(&self) -> f32 {
        1.0
    }

    fn model_input(&self, _call: usize, latents: &[f32]) -> Vec<f32> {
        latents.to_vec()
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        let factors = self.steps[self.calls[call].step];
        latents
            .iter()
            .zip(prediction)
            .map(|(x, predicted)| factors.split(self.prediction, *x, *predicted).0)
            .collect()
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let Some(call) = self.calls.get(call) else { return clean.to_vec() };
        let factors = self.steps[call.step];
        let pairs = clean.iter().zip(noise);
        pairs.map(|(x, noise)| factors.image * x + factors.noise * noise).collect()
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], _noise: &[f32]) {
        let factors = self.steps[self.calls[call].step];
        for (x, predicted) in state.latents.iter_mut().zip(prediction) {
            let (denoised, noise) = factors.split(self.prediction, *x, *predicted);
            *x = factors.next_image * denoised + factors.next_noise * noise;
        }
    }
}
