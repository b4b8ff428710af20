//! The decoder of the variational autoencoder: latents to pixels.
//!
//! Reference: diffusers' `AutoencoderKL.decode`. The encoder is not computed here.

use candle_core::Tensor;

use crate::Result;
use crate::config::vae::VaeConfig;
use crate::ops::{Attention, Conv2d, GroupNorm, Linear, Ops};
use crate::resnet::{Resnet, ResnetConfig};
use crate::weights::{Weights, WeightsFile};

/// The constant that diffusers fixes for every norm of the VAE.
const NORM_EPSILON: f64 = 1e-6;

/// A loaded decoder.
pub(crate) struct VaeDecoder {
    ops: Ops,
    config: VaeConfig,
    post_quant: Option<Conv2d>,
    conv_in: Conv2d,
    mid: (Resnet, Option<PixelAttention>, Resnet),
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl VaeDecoder {
    /// Takes the decoder out of its weights; the encoder's tensors stay in the file.
    pub fn load(file: &WeightsFile, ops: &Ops, config: VaeConfig) -> Result<Self> {
        let root = file.root(ops);
        let weights = root.at("decoder");
        let (latent, first) = (config.latent_channels, config.channels[0]);
        let smallest = config.channels[config.channels.len() - 1];
        let post_quant =
            config.post_quant_conv.then(|| Conv2d::load(&root.at("post_quant_conv"), latent, latent, 1, 1));
        let decoder = Self {
            ops: ops.clone(),
            post_quant: post_quant.transpose()?,
            conv_in: Conv2d::load(&weights.at("conv_in"), latent, smallest, 3, 1)?,
            mid: load_mid(&weights.at("mid_block"), &config, smallest)?,
            up: load_up(&weights.at("up_blocks"), &config)?,
            norm_out: GroupNorm::load(&weights.at("conv_norm_out"), config.norm_groups, first, NORM_EPSILON)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), first, 3, 3, 1)?,
            config,
        };
        file.expect_all_read(&["encoder.", "quant_conv."])?;
        Ok(decoder)
    }

    /// The decoder's sizes.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Latents `[batch, latent_channels, h, w]`, as the sampler leaves them, to pixels `[batch, 3, H, W]`
    /// with values about -1 to 1.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let mut hidden = match &self.post_quant {
            Some(conv) => conv.forward(latents)?,
            None => latents.clone(),
        };
        hidden = self.mid.0.forward(&self.conv_in.forward(&hidden)?, None)?;
        if let Some(attention) = &self.mid.1 {
            hidden = attention.forward(&self.ops, &hidden)?;
        }
        hidden = self.mid.2.forward(&hidden, None)?;
        for block in &self.up {
            hidden = block.forward(&self.ops, hidden)?;
        }
        self.conv_out.forward(&self.norm_out.forward_silu_into(hidden)?)
    }
}

fn resnet(config: &VaeConfig, in_channels: usize, out_channels: usize) -> ResnetConfig {
    ResnetConfig {
        in_channels,
        out_channels,
        norm_groups: config.norm_groups,
        norm_epsilon: NORM_EPSILON,
        time_width: None,
    }
}

fn load_mid(
    weights: &Weights<'_>,
    config: &VaeConfig,
    channels: usize,
) -> Result<(Resnet, Option<PixelAttention>, Resnet)> {
    let attention = config
        .mid_attention
        .then(|| PixelAttention::load(&weights.at("attentions.0"), channels, config.norm_groups));
    let residual = |index| Resnet::load(&weights.at("resnets").at(index), resnet(config, channels, channels));
    Ok((residual(0)?, attention.transpose()?, residual(1)?))
}

fn load_up(weights: &Weights<'_>, config: &VaeConfig) -> Result<Vec<UpBlock>> {
    let mut below = config.channels[config.channels.len() - 1];
    let mut blocks = Vec::with_capacity(config.channels.len());
    for (index, channels) in config.channels.iter().rev().copied().enumerate() {
        let weights = weights.at(index);
        let residual = |layer: usize| {
            let input = if layer == 0 { below } else { channels };
            Resnet::load(&weights.at("resnets").at(layer), resnet(config, input, channels))
        };
        let upsample = (index + 1 < config.channels.len())
            .then(|| Conv2d::load(&weights.at("upsamplers.0.conv"), channels, channels, 3, 1));
        blocks.push(UpBlock {
            resnets: (0..=config.layers).map(residual).collect::<Result<_>>()?,
            upsample: upsample.transpose()?,
        });
        below = channels;
    }
    Ok(blocks)
}

/// Residual layers, then a doubling of the size.
struct UpBlock {
    resnets: Vec<Resnet>,
    upsample: Option<Conv2d>,
}

impl UpBlock {
    fn forward(&self, ops: &Ops, mut hidden: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            hidden = resnet.forward(&hidden, None)?;
        }
        match &self.upsample {
            Some(conv) => conv.forward(&ops.upsample2x(&hidden)?),
            None => Ok(hidden),
        }
    }
}

/// One-headed self-attention over all positions.
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
