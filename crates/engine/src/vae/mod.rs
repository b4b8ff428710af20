//! The variational autoencoder: pixels to latents and back.
//!
//! Reference: diffusers' `AutoencoderKL`. `force_upcast` asks for f32 where a pipeline runs in f16; here
//! everything is f32, so there is nothing to obey.

mod decoder;
mod encoder;
#[cfg(test)]
mod parity_tests;
mod tiles;

use candle_core::Tensor;

pub(crate) use self::decoder::VaeDecoder;
#[cfg(test)]
pub(crate) use self::encoder::Moments;
pub(crate) use self::encoder::VaeEncoder;
pub(crate) use self::tiles::Tiling;
use crate::Result;
use crate::config::vae::VaeConfig;
use crate::ops::{Attention, GroupNorm, Linear, Ops};
use crate::resnet::{Resnet, ResnetConfig};
use crate::weights::Weights;

/// The constant that diffusers fixes for every norm of the VAE.
const NORM_EPSILON: f64 = 1e-6;

fn resnet(config: &VaeConfig, in_channels: usize, out_channels: usize) -> ResnetConfig {
    ResnetConfig {
        in_channels,
        out_channels,
        norm_groups: config.norm_groups,
        norm_epsilon: NORM_EPSILON,
        time_width: None,
    }
}

/// The layers at the smallest size: a residual layer, perhaps attention, a residual layer.
struct Middle {
    first: Resnet,
    attention: Option<PixelAttention>,
    second: Resnet,
}

impl Middle {
    fn load(weights: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let channels = config.smallest_channels();
        let attention = config
            .mid_attention
            .then(|| PixelAttention::load(&weights.at("attentions.0"), channels, config.norm_groups));
        let residual =
            |index| Resnet::load(&weights.at("resnets").at(index), resnet(config, channels, channels));
        Ok(Self { first: residual(0)?, attention: attention.transpose()?, second: residual(1)? })
    }

    fn forward(&self, ops: &Ops, hidden: &Tensor) -> Result<Tensor> {
        let mut hidden = self.first.forward(hidden, None)?;
        if let Some(attention) = &self.attention {
            hidden = attention.forward(ops, &hidden)?;
        }
        self.second.forward(&hidden, None)
    }
}

/// Self-attention over all positions. It has one head, whatever the width, as `AutoencoderKL` makes it.
struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    /// Older files call the projections `query`, `key`, `value` and `proj_attn`.
    fn load(weights: &Weights<'_>, channels: usize, norm_groups: usize) -> Result<Self> {
        let projection = |new: &str, old: &str| {
            let name = if weights.at(old).has("weight") { old } else { new };
            Linear::load(&weights.at(name), channels, channels, true)
        };
        Ok(Self {
            norm: GroupNorm::load(&weights.at("group_norm"), norm_groups, channels, NORM_EPSILON)?,
            q: projection("to_q", "query")?,
            k: projection("to_k", "key")?,
            v: projection("to_v", "value")?,
            out: projection("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, ops: &Ops, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let positions = self.norm.forward(x)?.reshape((batch, channels, height * width))?;
        let positions = ops.transpose(&positions)?;
        let (q, k, v) =
            (self.q.forward(&positions)?, self.k.forward(&positions)?, self.v.forward(&positions)?);
        let attended = ops.attention(&q, &k, &v, Attention { heads: 1, causal: false })?;
        let out = ops.transpose(&self.out.forward(&attended)?)?;
        ops.add_into(out.reshape((batch, channels, height, width))?, x)
    }
}
