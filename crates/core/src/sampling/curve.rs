//! The noise of training: how much of the image and how much noise there is at each timestep.

use std::f64::consts::PI;

use super::{BetaCurve, NoiseSchedule};
use crate::invalid::Invalid;

/// Longest training schedule that is computed.
const MAX_TRAIN_STEPS: u32 = 100_000;
/// Largest beta of [`BetaCurve::SquaredcosCapV2`].
const MAX_BETA: f64 = 0.999;
/// The image's part that samplers on noise levels see where it would be nothing: 2^-24.
const SMALLEST_ALPHA: f32 = 1.0 / (1 << 24) as f32;

impl NoiseSchedule {
    /// The part of the image's variance that is left at each training timestep.
    ///
    /// As diffusers computes it, because its rounding is part of what models were trained with: betas evenly
    /// spaced in `f32` (squared in `f32` under `scaled_linear`), alphas `1 - beta` in `f32`, and their running
    /// product accumulated in `f64` and rounded to `f32` at each timestep, which is how `torch.cumprod` works.
    ///
    /// Errors: a schedule out of range.
    pub fn alphas(&self) -> Result<Vec<f32>, Invalid> {
        let betas = self.betas()?;
        let alphas = running_product(betas.into_iter().map(|beta| 1.0 - beta));
        Ok(if self.zero_terminal_snr { without_last_image(&alphas) } else { alphas })
    }

    /// The noise level `sqrt((1 - a) / a)` of each training timestep with alpha a.
    ///
    /// Under zero terminal SNR the last alpha counts as 2^-24, so that the level is finite.
    ///
    /// Errors: a schedule out of range.
    pub fn sigmas(&self) -> Result<Vec<f32>, Invalid> {
        let mut alphas = self.alphas()?;
        if let Some(last) = alphas.last_mut().filter(|_| self.zero_terminal_snr) {
            *last = SMALLEST_ALPHA;
        }
        Ok(alphas.into_iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect())
    }

    fn betas(&self) -> Result<Vec<f32>, Invalid> {
        let steps = self.train_steps;
        let refuse = |reason: String| Err(Invalid::NoiseSchedule { reason });
        if !(2..=MAX_TRAIN_STEPS).contains(&steps) {
            return refuse(format!("train_steps {steps} is outside 2 to {MAX_TRAIN_STEPS}"));
        }
        let (start, end) = (self.beta_start, self.beta_end);
        if !(start > 0.0 && start <= end && end < 1.0) {
            return refuse(format!("betas from {start} to {end} do not rise between 0 and 1"));
        }
        Ok(match self.beta_curve {
            BetaCurve::Linear => evenly_spaced(start as f32, end as f32, steps),
            BetaCurve::ScaledLinear => {
                let roots = evenly_spaced(start.sqrt() as f32, end.sqrt() as f32, steps);
                roots.into_iter().map(|root| root * root).collect()
            }
            BetaCurve::SquaredcosCapV2 => (0..steps).map(|step| cosine_beta(step, steps)).collect(),
        })
    }
}

fn running_product(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut product = 1.0_f64;
    factors
        .map(|factor| {
            product *= f64::from(factor);
            product as f32
        })
        .collect()
}

/// `torch.linspace` in `f32`: the first half counted from the start, the second from the end.
fn evenly_spaced(start: f32, end: f32, count: u32) -> Vec<f32> {
    let gap = (end - start) / (count - 1) as f32;
    let value = |index: u32| {
        if index < count / 2 { start + gap * index as f32 } else { end - gap * (count - 1 - index) as f32 }
    };
    (0..count).map(value).collect()
}

/// `betas_for_alpha_bar` of diffusers.
fn cosine_beta(step: u32, steps: u32) -> f32 {
    let left = |step: u32| {
        let time = f64::from(step) / f64::from(steps);
        let cos = libm::cos((time + 0.008) / 1.008 * PI / 2.0);
        cos * cos
    };
    (1.0 - left(step + 1) / left(step)).min(MAX_BETA) as f32
}

/// `rescale_zero_terminal_snr` of diffusers, in `f32`: roots of alphas shifted so that the last is 0 and
/// scaled so that the first stays, taken apart into betas and multiplied up again.
fn without_last_image(alphas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas.iter().map(|alpha| alpha.sqrt()).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = first / (first - last);
    let squares: Vec<f32> =
        roots.iter().map(|root| ((root - last) * scale) * ((root - last) * scale)).collect();
    let ratio = |index: usize| if index == 0 { squares[0] } else { squares[index] / squares[index - 1] };
    // Through beta and back, as there: each subtraction rounds.
    running_product((0..squares.len()).map(|index| 1.0 - (1.0 - ratio(index))))
}
