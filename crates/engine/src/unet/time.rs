//! The timestep embedding: sines and cosines of the timestep, then two linear layers.
//!
//! Reference: diffusers' `get_timestep_embedding` and `TimestepEmbedding`. One row is computed for a
//! timestep, never one an image: a row's bits must not depend on how many rows stand beside it.

use candle_core::Tensor;

use crate::Result;
use crate::config::unet::UnetConfig;
use crate::ops::{Linear, Ops};
use crate::weights::Weights;

/// Periods of the sinusoids run up to this.
const MAX_PERIOD: f64 = 10_000.0;

/// A loaded timestep embedding.
pub(super) struct TimeEmbedding {
    ops: Ops,
    width: usize,
    flip_sin_to_cos: bool,
    frequency_shift: f64,
    linear1: Linear,
    linear2: Linear,
}

impl TimeEmbedding {
    pub fn load(weights: &Weights<'_>, config: &UnetConfig) -> Result<Self> {
        let width = config.down[0].channels;
        Ok(Self {
            ops: weights.ops().clone(),
            width,
            flip_sin_to_cos: config.flip_sin_to_cos,
            frequency_shift: config.frequency_shift,
            linear1: Linear::load(&weights.at("linear_1"), width, 4 * width, true)?,
            linear2: Linear::load(&weights.at("linear_2"), 4 * width, 4 * width, true)?,
        })
    }

    /// The embedding of one timestep, `[1, 4 * width]`.
    pub fn forward(&self, timestep: f64) -> Result<Tensor> {
        let row = sinusoids(timestep as f32, self.width, self.flip_sin_to_cos, self.frequency_shift);
        let row = Tensor::from_vec(row, (1, self.width), self.ops.device())?;
        let hidden = self.ops.silu(&self.linear1.forward(&row)?)?;
        self.linear2.forward(&hidden)
    }
}

/// `width` values: sines, then cosines (or the other way round), a zero if `width` is odd.
///
/// The angle is rounded to `f32` where diffusers rounds it; exp, sin and cos are computed in `f64` by
/// the pure-Rust libm and rounded once.
fn sinusoids(timestep: f32, width: usize, flip_sin_to_cos: bool, frequency_shift: f64) -> Vec<f32> {
    let half = width / 2;
    let spread = (half as f64 - frequency_shift) as f32;
    let decay = -libm::log(MAX_PERIOD) as f32;
    let angles = (0..half).map(|index| {
        let exponent = decay * index as f32 / spread;
        timestep * libm::exp(f64::from(exponent)) as f32
    });
    let sines = angles.clone().map(|angle| libm::sin(f64::from(angle)) as f32);
    let cosines = angles.map(|angle| libm::cos(f64::from(angle)) as f32);
    let mut row: Vec<f32> =
        if flip_sin_to_cos { cosines.chain(sines).collect() } else { sines.chain(cosines).collect() };
    row.resize(width, 0.0);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    // Printed by diffusers 0.42.1:
    // from diffusers.models.embeddings import get_timestep_embedding as e; import torch
    // e(torch.tensor([951]), 8, flip_sin_to_cos=True, downscale_freq_shift=0)
    // e(torch.tensor([499.5]), 7, flip_sin_to_cos=False, downscale_freq_shift=1)
    const GOLDEN_951: [f32; 8] = [
        -0.619_591_6,
        0.658_320_25,
        -0.996_370_8,
        0.580_869_44,
        0.784_924_3,
        0.752_737_94,
        -0.085_119_14,
        0.813_996_73,
    ];
    const GOLDEN_499: [f32; 7] =
        [0.013_231_535, -0.960_330_6, 0.049_929_228, -0.999_912_44, 0.278_863_94, 0.998_752_8, 0.0];

    #[test]
    fn sinusoids_are_those_of_diffusers() {
        let cases = [(951.0, 8, true, 0.0, &GOLDEN_951[..]), (499.5, 7, false, 1.0, &GOLDEN_499[..])];
        for (timestep, width, flip, shift, expected) in cases {
            let row = sinusoids(timestep, width, flip, shift);
            assert_eq!(row.len(), expected.len());
            for (ours, theirs) in row.iter().zip(expected) {
                assert!((ours - theirs).abs() < 1e-5, "{row:?} against {expected:?}");
            }
        }
    }
}
