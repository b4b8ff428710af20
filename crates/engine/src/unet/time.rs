//! What tells every residual layer where in the process it stands: the timestep, and in some networks the
//! guidance scale, the pooled text and the picture's sizes, each through sinusoids and linear layers.
//!
//! Reference: diffusers' `get_timestep_embedding`, `TimestepEmbedding` and, for the guidance scale,
//! `get_guidance_scale_embedding`. One row is computed at a time, never a batch of them: a row's bits must
//! not depend on how many rows stand beside it.

use candle_core::Tensor;

use super::added::{Added, Conditions};
use crate::config::unet::{AddedConfig, TimeConfig, TrunkConfig};
use crate::ops::{Linear, Ops};
use crate::weights::Weights;
use crate::{Error, Result};

/// Periods of the sinusoids run up to this.
const MAX_PERIOD: f64 = 10_000.0;

/// The embeddings of one network.
pub(super) struct TimeEmbedding {
    ops: Ops,
    config: TimeConfig,
    width: usize,
    linears: TwoLinears,
    /// From the sinusoids of the guidance scale to those of the timestep.
    guidance: Option<(Linear, usize)>,
    added: Option<(TwoLinears, AddedConfig)>,
}

impl TimeEmbedding {
    /// `root` is the network's own place: its embeddings have two names below it.
    pub fn load(root: &Weights<'_>, trunk: &TrunkConfig) -> Result<Self> {
        let (width, embedding) = (trunk.first_channels(), trunk.embedding_width());
        let weights = root.at("time_embedding");
        let guidance = |of_guidance: usize| {
            Ok::<_, Error>((Linear::load(&weights.at("cond_proj"), of_guidance, width, false)?, of_guidance))
        };
        let added = |added: AddedConfig| {
            let inputs = added.pooled_width + crate::config::unet::TIME_IDS * added.time_width;
            Ok::<_, Error>((TwoLinears::load(&root.at("add_embedding"), inputs, embedding)?, added))
        };
        Ok(Self {
            ops: root.ops().clone(),
            config: trunk.time,
            width,
            linears: TwoLinears::load(&weights, width, embedding)?,
            guidance: trunk.time.guidance_width.map(guidance).transpose()?,
            added: trunk.added.map(added).transpose()?,
        })
    }

    /// What the timestep is joined by, one row a sample; nothing for a network that takes nothing more.
    ///
    /// Errors: a sample without the pooled text that the network needs, or with one of another width.
    pub fn added(&self, samples: &[Conditions]) -> Result<Option<Added>> {
        if self.guidance.is_none() && self.added.is_none() {
            return Ok(None);
        }
        let guidance = self.guidance.as_ref().map(|(project, width)| {
            let row = |sample: &Conditions| {
                project.forward(&self.row(guidance_sinusoids(sample.guidance, *width))?)
            };
            samples.iter().map(row).collect::<Result<Vec<_>>>()
        });
        let embedding = self.added.as_ref().map(|(linears, config)| {
            let row =
                |sample: &Conditions| linears.forward(&self.ops, &self.pooled_and_sizes(sample, *config)?);
            samples.iter().map(row).collect::<Result<Vec<_>>>()
        });
        Ok(Some(Added { guidance: guidance.transpose()?, embedding: embedding.transpose()? }))
    }

    fn pooled_and_sizes(&self, sample: &Conditions, config: AddedConfig) -> Result<Tensor> {
        let needed = config.pooled_width;
        let pooled = match &sample.pooled {
            Some(pooled) if pooled.elem_count() == needed => pooled.reshape((1, 1, needed))?,
            Some(pooled) => {
                let given = pooled.elem_count();
                return Err(Error::Recipe(format!(
                    "a pooled text of width {given} does not fit a network that takes {needed}"
                )));
            }
            None => return Err(Error::Recipe("the network needs a pooled text".to_owned())),
        };
        let of_number = |number: &f64| self.sinusoids(*number, config.time_width);
        let sizes = self.row(sample.time_ids.iter().flat_map(of_number).collect())?;
        Ok(Tensor::cat(&[&pooled, &sizes], 2)?)
    }

    /// The activated embedding of each sample, `[rows, 1, 4 * width]`: one row where the samples share
    /// everything, else one for each of `batch`.
    ///
    /// Errors: timesteps or conditions that are neither one nor as many as the samples.
    pub fn forward(&self, timesteps: &[f64], added: Option<&Added>, batch: usize) -> Result<Tensor> {
        let rows = check_rows(timesteps.len(), added, batch)?;
        self.check_conditions(added)?;
        let (guidance, more) = match added {
            Some(Added { guidance, embedding }) => (guidance.as_deref(), embedding.as_deref()),
            None => (None, None),
        };
        let different = if guidance.is_some() { rows } else { timesteps.len() };
        let embed = |index: usize| {
            self.embed(timesteps[index % timesteps.len()], guidance.map(|guidance| &guidance[index]))
        };
        let mut embedded = (0..different).map(embed).collect::<Result<Vec<_>>>()?;
        if let Some(more) = more {
            let join = |(index, more): (usize, &Tensor)| self.ops.add(&embedded[index % different], more);
            embedded = more.iter().enumerate().map(join).collect::<Result<_>>()?;
        }
        self.ops.silu(&Tensor::cat(&embedded, 0)?)
    }

    /// The embedding of one timestep, `[1, 1, 4 * width]`.
    fn embed(&self, timestep: f64, guidance: Option<&Tensor>) -> Result<Tensor> {
        let mut row = self.row(self.sinusoids(timestep, self.width))?;
        if let Some(guidance) = guidance {
            row = self.ops.add_into(row, guidance)?;
        }
        self.linears.forward(&self.ops, &row)
    }

    fn check_conditions(&self, added: Option<&Added>) -> Result<()> {
        let has_guidance = added.is_some_and(|added| added.guidance.is_some());
        let has_embedding = added.is_some_and(|added| added.embedding.is_some());
        if has_guidance == self.guidance.is_some() && has_embedding == self.added.is_some() {
            return Ok(());
        }
        Err(Error::Recipe("the conditions were prepared for another network".to_owned()))
    }

    fn sinusoids(&self, number: f64, width: usize) -> Vec<f32> {
        sinusoids(number as f32, width, self.config.flip_sin_to_cos, self.config.frequency_shift)
    }

    /// `[1, 1, width]`.
    fn row(&self, values: Vec<f32>) -> Result<Tensor> {
        let width = values.len();
        Ok(Tensor::from_vec(values, (1, 1, width), self.ops.device())?)
    }
}

/// The number of different rows.
fn check_rows(timesteps: usize, added: Option<&Added>, batch: usize) -> Result<usize> {
    let fault = |what: &str, count: usize| {
        Err(Error::Recipe(format!("{count} {what} do not fit a batch of {batch} samples")))
    };
    match added.map(Added::samples) {
        Some(samples) if samples != batch => fault("conditions", samples),
        _ if timesteps != 1 && timesteps != batch => fault("timesteps", timesteps),
        Some(samples) => Ok(samples),
        None => Ok(timesteps),
    }
}

/// Two linear layers with silu between them.
struct TwoLinears {
    linear1: Linear,
    linear2: Linear,
}

impl TwoLinears {
    fn load(weights: &Weights<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            linear1: Linear::load(&weights.at("linear_1"), inputs, outputs, true)?,
            linear2: Linear::load(&weights.at("linear_2"), outputs, outputs, true)?,
        })
    }

    fn forward(&self, ops: &Ops, row: &Tensor) -> Result<Tensor> {
        self.linear2.forward(&ops.silu(&self.linear1.forward(row)?)?)
    }
}

/// `width` values: sines, then cosines (or the other way round), a zero if `width` is odd.
///
/// The angle is rounded to `f32` where diffusers rounds it; exp, sin and cos are computed in `f64` by
/// the pure-Rust libm and rounded once.
fn sinusoids(number: f32, width: usize, flip_sin_to_cos: bool, frequency_shift: f64) -> Vec<f32> {
    let half = width / 2;
    let spread = (half as f64 - frequency_shift) as f32;
    let decay = -libm::log(MAX_PERIOD) as f32;
    let exponents = (0..half).map(|index| decay * index as f32 / spread);
    waves(number, exponents, width, flip_sin_to_cos)
}

/// The same of a guidance scale, whose frequencies are spread in another way: `width` values, sines first.
fn guidance_sinusoids(guidance: f64, width: usize) -> Vec<f32> {
    let number = (guidance - 1.0) as f32 * 1000.0;
    let half = width / 2;
    let decay = -(libm::log(MAX_PERIOD) as f32 / (half as f32 - 1.0));
    let exponents = (0..half).map(|index| index as f32 * decay);
    waves(number, exponents, width, false)
}

fn waves(
    number: f32,
    exponents: impl Iterator<Item = f32> + Clone,
    width: usize,
    cosines_first: bool,
) -> Vec<f32> {
    let angles = exponents.map(|exponent| number * libm::exp(f64::from(exponent)) as f32);
    let sines = angles.clone().map(|angle| libm::sin(f64::from(angle)) as f32);
    let cosines = angles.map(|angle| libm::cos(f64::from(angle)) as f32);
    let mut row: Vec<f32> =
        if cosines_first { cosines.chain(sines).collect() } else { sines.chain(cosines).collect() };
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
