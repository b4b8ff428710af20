//! The encoder: pixels to the distribution of their latents.
//!
//! Reference: diffusers' `AutoencoderKL.encode` and `DiagonalGaussianDistribution`.

use candle_core::Tensor;
use seedfarm_numerics::{Padding, math};

use super::{Middle, NORM_EPSILON, resnet};
use crate::Result;
use crate::config::vae::VaeConfig;
use crate::ops::{Conv2d, ConvConfig, GroupNorm, Ops};
use crate::resnet::Resnet;
use crate::weights::{Weights, WeightsFile};

/// The logarithms of variances that latents may have.
const LOG_VARIANCES: std::ops::RangeInclusive<f32> = -30.0..=20.0;

/// A loaded encoder.
pub(crate) struct VaeEncoder {
    ops: Ops,
    config: VaeConfig,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant: Option<Conv2d>,
}

/// The latents of one picture as independent normal distributions, `[latent_channels, h, w]`, before the
/// model's scaling factor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub mean: Vec<f32>,
    /// Natural logarithms of the variances, from -30 to 20.
    pub log_variance: Vec<f32>,
}

impl Moments {
    /// Latents drawn with standard normal `noise`: `mean + exp(0.5 * log_variance) * noise`.
    pub fn sample(&self, noise: &[f32]) -> Vec<f32> {
        let spread = self.log_variance.iter().map(|log| math::exp(0.5 * log));
        self.mean.iter().zip(spread).zip(noise).map(|((mean, spread), noise)| mean + spread * noise).collect()
    }
}

impl VaeEncoder {
    /// Takes the encoder out of its weights; the decoder's tensors stay in the file.
    pub fn load(file: &WeightsFile, ops: &Ops, config: VaeConfig) -> Result<Self> {
        let root = file.root(ops);
        let weights = root.at("encoder");
        let (first, smallest) = (config.channels[0], config.smallest_channels());
        let moments = 2 * config.latent_channels;
        let quant = config.quant_conv.then(|| Conv2d::load(&root.at("quant_conv"), moments, moments, 1, 1));
        let norm = weights.at("conv_norm_out");
        let encoder = Self {
            ops: ops.clone(),
            conv_in: Conv2d::load(&weights.at("conv_in"), 3, first, 3, 1)?,
            down: load_down(&weights.at("down_blocks"), &config)?,
            middle: Middle::load(&weights.at("mid_block"), &config)?,
            norm_out: GroupNorm::load(&norm, config.norm_groups, smallest, NORM_EPSILON)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), smallest, moments, 3, 1)?,
            quant: quant.transpose()?,
            config,
        };
        file.expect_all_read(&["decoder.", "post_quant_conv."])?;
        Ok(encoder)
    }

    /// The encoder's sizes.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Pixels `[1, 3, H, W]` with values from -1 to 1 to the moments of their latents. Sides that are no
    /// multiple of [`VaeConfig::pixels_per_latent`] lose what is over.
    pub fn encode(&self, pixels: &Tensor) -> Result<Moments> {
        let mut hidden = self.conv_in.forward(pixels)?;
        for block in &self.down {
            hidden = block.forward(hidden)?;
        }
        let hidden = self.middle.forward(&self.ops, &hidden)?;
        let mut moments = self.conv_out.forward(&self.norm_out.forward_silu_into(hidden)?)?;
        if let Some(quant) = &self.quant {
            moments = quant.forward(&moments)?;
        }
        let mut mean = moments.flatten_all()?.to_vec1::<f32>()?;
        let mut log_variance = mean.split_off(mean.len() / 2);
        for value in &mut log_variance {
            *value = value.clamp(*LOG_VARIANCES.start(), *LOG_VARIANCES.end());
        }
        Ok(Moments { mean, log_variance })
    }
}

fn load_down(weights: &Weights<'_>, config: &VaeConfig) -> Result<Vec<DownBlock>> {
    let mut above = config.channels[0];
    let mut blocks = Vec::with_capacity(config.channels.len());
    for (index, channels) in config.channels.iter().copied().enumerate() {
        let weights = weights.at(index);
        let residual = |layer: usize| {
            let input = if layer == 0 { above } else { channels };
            Resnet::load(&weights.at("resnets").at(layer), resnet(config, input, channels))
        };
        let halve = (index + 1 < config.channels.len())
            .then(|| Conv2d::load_as(&weights.at("downsamplers.0.conv"), halving(channels)));
        blocks.push(DownBlock {
            resnets: (0..config.layers).map(residual).collect::<Result<_>>()?,
            halve: halve.transpose()?,
        });
        above = channels;
    }
    Ok(blocks)
}

/// The VAE halves a size with padding below and to the right alone.
fn halving(channels: usize) -> ConvConfig {
    let padding = Padding { top: 0, bottom: 1, left: 0, right: 1 };
    ConvConfig { inputs: channels, outputs: channels, kernel: 3, stride: 2, padding, has_bias: true }
}

/// Residual layers, then a halving of the size.
struct DownBlock {
    resnets: Vec<Resnet>,
    halve: Option<Conv2d>,
}

impl DownBlock {
    fn forward(&self, mut hidden: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            hidden = resnet.forward(&hidden, None)?;
        }
        match &self.halve {
            Some(conv) => conv.forward(&hidden),
            None => Ok(hidden),
        }
    }
}
