//! DDIM with eta 0 (Song et al. 2020, arXiv:2010.02502, formula 12).
//!
//! Reference: diffusers' `DDIMScheduler.step` without clipping or thresholding.

use seedfarm_core::NoiseSchedule;
use seedfarm_core::sampling::Prediction;

use super::Sampling;
use super::schedule::alphas_cumprod;
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
}

impl Ddim {
    pub fn new(schedule: &NoiseSchedule, timesteps: &[f64]) -> Result<Self> {
        let alphas = alphas_cumprod(schedule)?;
        let last = if schedule.set_alpha_to_one { 1.0 } else { alphas[0] };
        // Whole division, as diffusers has it, even where the timesteps lie further apart.
        let stride = schedule.train_steps as usize / timesteps.len().max(1);
        let steps = timesteps.iter().map(|timestep| {
            let index = whole(*timestep, alphas.len())?;
            let next = index.checked_sub(stride).map_or(last, |next| alphas[next]);
            Ok(Factors::new(alphas[index], next))
        });
        Ok(Self { prediction: schedule.prediction, steps: steps.collect::<Result<_>>()? })
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
    fn initial_scale(&self) -> f32 {
        1.0
    }

    fn model_input(&self, _step: usize, latents: &[f32]) -> Vec<f32> {
        latents.to_vec()
    }

    fn denoised(&self, step: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        let factors = self.steps[step];
        latents
            .iter()
            .zip(prediction)
            .map(|(x, predicted)| factors.split(self.prediction, *x, *predicted).0)
            .collect()
    }

    fn step(&self, step: usize, latents: &mut [f32], prediction: &[f32], _noise: &[f32]) {
        let factors = self.steps[step];
        for (x, predicted) in latents.iter_mut().zip(prediction) {
            let (denoised, noise) = factors.split(self.prediction, *x, *predicted);
            *x = factors.next_image * denoised + factors.next_noise * noise;
        }
    }
}
