//! Samplers on whole timesteps: the image's and the noise's part of the latents at each.

use seedfarm_core::sampling::Prediction;

use super::{Settings, refused};
use crate::{Error, Result};

/// The parts of training, by timestep.
pub(super) struct Alphas {
    prediction: Prediction,
    alphas: Vec<f32>,
    name: &'static str,
}

/// The parts of the latents at one timestep, and what the network predicts there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    prediction: Prediction,
    /// The square root of the image's part.
    pub image: f32,
    /// The square root of the noise's part.
    pub noise: f32,
}

impl Alphas {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        Ok(Self {
            prediction: settings.schedule.prediction,
            alphas: settings.schedule.alphas().map_err(refused)?,
            name: settings.sampler.as_str(),
        })
    }

    /// The image's part of the variance at a timestep, which must be whole and in range.
    pub fn at(&self, timestep: f64) -> Result<f32> {
        Ok(self.alphas[self.index(timestep)?])
    }

    /// The same, `stride` timesteps earlier in training; `last` before the first.
    pub fn before(&self, timestep: f64, stride: usize, last: f32) -> Result<f32> {
        let index = self.index(timestep)?;
        Ok(index.checked_sub(stride).map_or(last, |index| self.alphas[index]))
    }

    /// What is left where the last step ends: all of the image, or the first alpha of training.
    pub fn last(&self, whole_image: bool) -> f32 {
        if whole_image { 1.0 } else { self.alphas[0] }
    }

    /// The parts at a timestep.
    ///
    /// Errors: a timestep out of range, and one with nothing of the image from which the noise alone would
    /// have to tell it.
    pub fn parts(&self, timestep: f64) -> Result<Parts> {
        let alpha = self.at(timestep)?;
        if alpha == 0.0 && self.prediction == Prediction::Epsilon {
            return Err(Error::Recipe(format!(
                "at timestep {timestep} nothing is left of the image, and a network that predicts noise \
                 cannot start there: use another spacing, or a model with v_prediction"
            )));
        }
        Ok(Parts { prediction: self.prediction, image: root(alpha), noise: root(1.0 - alpha) })
    }

    fn index(&self, timestep: f64) -> Result<usize> {
        let index = timestep as usize;
        if index as f64 == timestep && index < self.alphas.len() {
            return Ok(index);
        }
        let (last, name) = (self.alphas.len() - 1, self.name);
        Err(Error::Recipe(format!(
            "timestep {timestep} is not a whole number from 0 to {last}, which {name} needs"
        )))
    }
}

impl Parts {
    /// The denoised value and the noise that one element's prediction stands for.
    pub fn split(self, x: f32, predicted: f32) -> (f32, f32) {
        match self.prediction {
            Prediction::Epsilon => ((x - self.noise * predicted) / self.image, predicted),
            Prediction::VPrediction => {
                (self.image * x - self.noise * predicted, self.image * predicted + self.noise * x)
            }
            Prediction::Sample => (predicted, (x - self.image * predicted) / self.noise),
        }
    }

    /// The denoised latents.
    pub fn denoised(self, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        latents.iter().zip(prediction).map(|(x, predicted)| self.split(*x, *predicted).0).collect()
    }

    /// Clean latents with noise of this timestep.
    pub fn noised(self, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        clean.iter().zip(noise).map(|(x, noise)| self.image * x + self.noise * noise).collect()
    }
}

/// The square root of an f32, rounded once.
pub(super) fn root(value: f32) -> f32 {
    f64::from(value).sqrt() as f32
}
