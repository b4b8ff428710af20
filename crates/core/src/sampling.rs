//! Samplers, noise schedules and the timesteps that follow from them.
//!
//! A recipe holds the resolved timesteps, so that a later change of these rules moves no old image.

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;

/// How latents are taken from noise to image.
///
/// The arithmetic lives in the engine, a file a sampler; this list is what a recipe may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// DDIM with eta 0 (Song et al. 2020, arXiv:2010.02502).
    Ddim,
    /// Euler's method (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn).
    Euler,
    /// Euler with ancestral noise, as k-diffusion's `sample_euler_ancestral`.
    EulerAncestral,
}

impl Sampler {
    /// Every sampler, in the order in which help texts list them.
    pub const ALL: [Self; 3] = [Self::Ddim, Self::Euler, Self::EulerAncestral];

    /// The sampler's name in recipes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler_ancestral",
        }
    }

    /// The name that A1111-style tools print.
    pub const fn a1111_name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIM",
            Self::Euler => "Euler",
            Self::EulerAncestral => "Euler a",
        }
    }

    /// The sampler called `name`; `euler_a` is understood too.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        let name = if name == "euler_a" { "euler_ancestral" } else { name };
        choice("sampler", name, &Self::ALL, |sampler| sampler.as_str())
    }

    /// Whether the sampler works on whole timesteps only (DDIM) or on points between them (Euler).
    const fn rounds_linspace(self) -> bool {
        matches!(self, Self::Ddim)
    }
}

/// Finds `name` in a list of choices; the error lists them all.
pub(crate) fn choice<T: Copy>(
    field: &'static str,
    name: &str,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
) -> Result<T, Invalid> {
    all.iter().copied().find(|&candidate| as_str(candidate) == name).ok_or_else(|| Invalid::UnknownChoice {
        field,
        given: name.to_owned(),
        known: all.iter().map(|&known| as_str(known)).collect::<Vec<_>>().join(", "),
    })
}

/// The curve of noise over training time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaCurve {
    /// Betas evenly spaced.
    Linear,
    /// Square roots of betas evenly spaced (Stable Diffusion).
    ScaledLinear,
}

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity (Salimans and Ho 2022, arXiv:2202.00512).
    VPrediction,
}

/// Where the sampling timesteps lie among the training timesteps
/// (Lin et al. 2023, arXiv:2305.08891, table 2; rounding as diffusers does it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Multiples of `train_steps / steps` (whole division) plus the offset.
    Leading,
    /// Counted back from the last training step.
    Trailing,
    /// Evenly from first to last.
    Linspace,
}

/// A model's noise schedule: what its `scheduler_config.json` says that moves pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseSchedule {
    /// Training timesteps, 1000 for every published Stable Diffusion.
    pub train_steps: u32,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// The curve between them.
    pub beta_curve: BetaCurve,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Where sampling timesteps lie.
    pub spacing: Spacing,
    /// Added to every timestep under [`Spacing::Leading`].
    pub steps_offset: u32,
    /// Whether DDIM's last step goes to an alpha of 1 (no noise) or to the first training alpha.
    pub set_alpha_to_one: bool,
}

impl NoiseSchedule {
    /// The timesteps to sample at, from the noisiest to the cleanest.
    ///
    /// As `set_timesteps` of diffusers' `DDIMScheduler`, `EulerDiscreteScheduler` and
    /// `EulerAncestralDiscreteScheduler`. `steps` must be 1 to `train_steps`.
    pub fn timesteps(&self, sampler: Sampler, steps: u32) -> Result<Vec<f64>, Invalid> {
        if steps == 0 || steps > self.train_steps {
            return Err(Invalid::StepsOutOfRange { given: steps, most: self.train_steps });
        }
        Ok(match self.spacing {
            Spacing::Leading => self.leading(steps),
            Spacing::Trailing => self.trailing(steps),
            Spacing::Linspace => self.linspace(sampler, steps),
        })
    }

    fn leading(&self, steps: u32) -> Vec<f64> {
        let ratio = self.train_steps / steps;
        let last = f64::from(self.train_steps - 1);
        (0..steps).rev().map(|i| f64::from(i * ratio + self.steps_offset).min(last)).collect()
    }

    fn trailing(&self, steps: u32) -> Vec<f64> {
        let train_steps = f64::from(self.train_steps);
        let ratio = train_steps / f64::from(steps);
        (0..steps).map(|i| (train_steps - f64::from(i) * ratio).round_ties_even() - 1.0).collect()
    }

    fn linspace(&self, sampler: Sampler, steps: u32) -> Vec<f64> {
        let last = f64::from(self.train_steps - 1);
        let gap = if steps == 1 { 0.0 } else { last / f64::from(steps - 1) };
        let point = |i: u32| if i > 0 && i == steps - 1 { last } else { f64::from(i) * gap };
        let exact = (0..steps).rev().map(point);
        if sampler.rounds_linspace() {
            exact.map(f64::round_ties_even).collect()
        } else {
            exact.map(|t| f64::from(t as f32)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
