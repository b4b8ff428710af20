//! Samplers on noise levels: the levels of a recipe's steps.

use seedfarm_core::sampling::{FinalSigma, Prediction, Spacing, check_levels};

use super::{Settings, refused};
use crate::{Error, Result};

/// The noise level before each step and after the last, and the scale of the first latents of samplers whose
/// latents grow with the level.
#[derive(Debug)]
pub(super) struct Sigmas {
    prediction: Prediction,
    levels: Vec<f32>,
    initial: f32,
}

impl Sigmas {
    /// The recipe's levels. Where it has none, the level of a timestep is `sqrt((1 - a) / a)` of the schedule,
    /// in between timesteps by linear interpolation, and `last` comes after the last step.
    ///
    /// Reference: `set_timesteps` and `init_noise_sigma` of diffusers' `EulerDiscreteScheduler`.
    ///
    /// Errors: a schedule, timestep or level out of range.
    pub fn new(settings: &Settings<'_>, last: FinalSigma) -> Result<Self> {
        let Settings { schedule, timesteps, .. } = *settings;
        let levels = match settings.sigmas {
            Some(sigmas) => {
                check_levels(sigmas, timesteps.len()).map_err(refused)?;
                sigmas.iter().map(|sigma| *sigma as f32).collect()
            }
            None => {
                let trained: Vec<f64> =
                    schedule.sigmas().map_err(refused)?.into_iter().map(f64::from).collect();
                let mut levels: Vec<f32> =
                    timesteps.iter().map(|t| interpolate(&trained, *t)).collect::<Result<_>>()?;
                levels.push(if last == FinalSigma::Zero { 0.0 } else { trained[0] as f32 });
                levels
            }
        };
        let largest = f64::from(levels.iter().copied().fold(0.0, f32::max));
        let initial = match schedule.spacing {
            Spacing::Linspace | Spacing::Trailing => largest as f32,
            Spacing::Leading => (largest * largest + 1.0).sqrt() as f32,
        };
        Ok(Self { prediction: schedule.prediction, levels, initial })
    }

    /// The same, for samplers that divide by what a step goes down: each level but the last must lie below
    /// the one before it, and only the last may be 0.
    pub fn falling(settings: &Settings<'_>, last: FinalSigma) -> Result<Self> {
        let sigmas = Self::new(settings, last)?;
        let levels: Vec<f64> = sigmas.levels.iter().copied().map(f64::from).collect();
        check_levels(&levels, settings.timesteps.len()).map_err(refused)?;
        Ok(sigmas)
    }

    /// The factor of unit noise before the first step.
    pub fn initial(&self) -> f32 {
        self.initial
    }

    /// The noise level before step `step`, from 0.
    pub fn from(&self, step: usize) -> f32 {
        self.levels[step]
    }

    /// The noise level after step `step`.
    pub fn to(&self, step: usize) -> f32 {
        self.levels[step + 1]
    }

    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.levels.len() - 1
    }

    /// The latents divided by `sqrt(sigma^2 + 1)`, which brings them to the variance of training.
    pub fn model_input(&self, step: usize, latents: &[f32]) -> Vec<f32> {
        scaled_input(self.from(step), latents)
    }

    /// The denoised latents before step `step`.
    pub fn denoised(&self, step: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        self.denoised_at(self.from(step), latents, prediction)
    }

    /// The denoised latents at noise level `sigma`.
    pub fn denoised_at(&self, sigma: f32, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        let pairs = latents.iter().zip(prediction);
        match self.prediction {
            Prediction::Epsilon => pairs.map(|(x, predicted)| x - sigma * predicted).collect(),
            Prediction::VPrediction => {
                let wide = f64::from(sigma);
                let of_prediction = (-wide / (wide * wide + 1.0).sqrt()) as f32;
                let of_latents = (wide * wide + 1.0) as f32;
                pairs.map(|(x, predicted)| predicted * of_prediction + x / of_latents).collect()
            }
            Prediction::Sample => prediction.to_vec(),
        }
    }
}

/// Latents of noise level `sigma` as the network was trained to see them.
pub(super) fn scaled_input(sigma: f32, latents: &[f32]) -> Vec<f32> {
    let sigma = f64::from(sigma);
    let scale = (sigma * sigma + 1.0).sqrt() as f32;
    latents.iter().map(|x| x / scale).collect()
}

/// Clean latents with noise of level `sigma`.
pub(super) fn noised_at(sigma: f32, clean: &[f32], noise: &[f32]) -> Vec<f32> {
    clean.iter().zip(noise).map(|(x, noise)| x + noise * sigma).collect()
}

/// The parts of image and noise, whose squares add up to 1, that latents of level `sigma` have when they are
/// brought to the variance of training.
pub(super) fn parts_of(sigma: f32) -> (f64, f64) {
    let sigma = f64::from(sigma);
    let image = 1.0 / (sigma * sigma + 1.0).sqrt();
    (image, sigma * image)
}

/// How far a step from level `from` to level `to` goes down by itself, and how much fresh noise it adds.
pub(super) fn down_and_up(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let up = (eta * (to * to * (from * from - to * to) / (from * from)).max(0.0).sqrt()).min(to);
    ((to * to - up * up).max(0.0).sqrt(), up)
}

fn interpolate(values: &[f64], at: f64) -> Result<f32> {
    let below = at.floor();
    if !(at >= 0.0 && at <= (values.len() - 1) as f64) {
        return Err(Error::Recipe(format!("timestep {at} is outside 0 to {}", values.len() - 1)));
    }
    let index = below as usize;
    let next = values.get(index + 1).unwrap_or(&values[index]);
    Ok(((next - values[index]) * (at - below) + values[index]) as f32)
}

#[cfg(test)]
mod tests;
