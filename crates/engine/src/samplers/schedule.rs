//! The noise schedule's numbers: how much of the image and how much noise there is at a timestep.

use seedfarm_core::NoiseSchedule;
use seedfarm_core::sampling::{BetaCurve, Spacing};

use crate::{Error, Result};

/// Longest training schedule that is computed.
const MAX_TRAIN_STEPS: u32 = 100_000;

/// The part of the image's variance that is left at each training timestep.
///
/// As diffusers computes it, because its rounding is part of what models were trained with: betas evenly
/// spaced in `f32` (squared in `f32` under `scaled_linear`), alphas `1 - beta` in `f32`, and their running
/// product accumulated in `f64` and rounded to `f32` at each timestep, which is how `torch.cumprod` works.
pub(super) fn alphas_cumprod(schedule: &NoiseSchedule) -> Result<Vec<f32>> {
    let steps = schedule.train_steps;
    if !(2..=MAX_TRAIN_STEPS).contains(&steps) {
        return Err(Error::Recipe(format!("train_steps {steps} is outside 2 to {MAX_TRAIN_STEPS}")));
    }
    let (start, end) = (schedule.beta_start, schedule.beta_end);
    if !(start > 0.0 && start <= end && end < 1.0) {
        return Err(Error::Recipe(format!("betas from {start} to {end} do not rise between 0 and 1")));
    }
    let betas: Vec<f32> = match schedule.beta_curve {
        BetaCurve::Linear => evenly_spaced(start as f32, end as f32, steps),
        BetaCurve::ScaledLinear => {
            let roots = evenly_spaced(start.sqrt() as f32, end.sqrt() as f32, steps);
            roots.into_iter().map(|root| root * root).collect()
        }
    };
    let mut product = 1.0_f64;
    Ok(betas
        .into_iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect())
}

/// `torch.linspace` in `f32`: the first half counted from the start, the second from the end.
fn evenly_spaced(start: f32, end: f32, count: u32) -> Vec<f32> {
    let gap = (end - start) / (count - 1) as f32;
    let value = |index: u32| {
        if index < count / 2 { start + gap * index as f32 } else { end - gap * (count - 1 - index) as f32 }
    };
    (0..count).map(value).collect()
}

/// The noise levels of the Euler samplers, one for each timestep and a last one of zero, and the scale of
/// the first latents.
#[derive(Debug)]
pub(super) struct Sigmas {
    levels: Vec<f32>,
    initial: f32,
}

impl Sigmas {
    /// Sigma is `sqrt((1 - a) / a)` of the schedule, in between timesteps by linear interpolation.
    /// Reference: `set_timesteps` and `init_noise_sigma` of diffusers' `EulerDiscreteScheduler`.
    pub fn new(schedule: &NoiseSchedule, timesteps: &[f64]) -> Result<Self> {
        let alphas = alphas_cumprod(schedule)?;
        let trained: Vec<f64> =
            alphas.iter().map(|alpha| f64::from(((1.0 - alpha) / alpha).sqrt())).collect();
        let mut levels = timesteps.iter().map(|t| interpolate(&trained, *t)).collect::<Result<Vec<f32>>>()?;
        let largest = f64::from(levels.iter().copied().fold(0.0, f32::max));
        let initial = match schedule.spacing {
            Spacing::Linspace | Spacing::Trailing => largest as f32,
            Spacing::Leading => (largest * largest + 1.0).sqrt() as f32,
        };
        levels.push(0.0);
        Ok(Self { levels, initial })
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

    /// Clean latents with noise of the level before step `step`.
    pub fn noised(&self, step: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let sigma = self.levels[step];
        clean.iter().zip(noise).map(|(x, noise)| x + noise * sigma).collect()
    }

    /// The latents divided by `sqrt(sigma^2 + 1)`, which brings them to the variance of training.
    pub fn model_input(&self, step: usize, latents: &[f32]) -> Vec<f32> {
        let sigma = f64::from(self.from(step));
        let scale = (sigma * sigma + 1.0).sqrt() as f32;
        latents.iter().map(|x| x / scale).collect()
    }
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
