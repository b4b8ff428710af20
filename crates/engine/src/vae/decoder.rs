//! The decoder: latents to pixels.
//!
//! Reference: diffusers' `AutoencoderKL.decode`.

use candle_core::Tensor;

use super::{Middle, NORM_EPSILON, resnet};
use crate::Result;
use crate::config::vae::VaeConfig;
use crate::ops::{Conv2d, GroupNorm, Ops};
use crate::resnet::Resnet;
use crate::weights::{Weights, WeightsFile};

/// A loaded decoder.
pub(crate) struct VaeDecoder {
    ops: Ops,
    config: VaeConfig,
    post_quant: Option<Conv2d>,
    conv_in: Conv2d,
    middle: Middle,
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
        let post_quant =
            config.post_quant_conv.then(|| Conv2d::load(&root.at("post_quant_conv"), latent, latent, 1, 1));
        let decoder = Self {
            ops: ops.clone(),
            post_quant: post_quant.transpose()?,
            conv_in: Conv2d::load(&weights.at("conv_in"), latent, config.smallest_channels(), 3, 1)?,
            middle: Middle::load(&weights.at("mid_block"), &config)?,
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
        let hidden = match &self.post_quant {
            Some(conv) => conv.forward(latents)?,
            None => latents.clone(),
        };
        let mut hidden = self.middle.forward(&self.ops, &self.conv_in.forward(&hidden)?)?;
        for block in &self.up {
            hidden = block.forward(&self.ops, hidden)?;
        }
        self.conv_out.forward(&self.norm_out.forward_silu_into(hidden)?)
    }
}

fn load_up(weights: &Weights<'_>, config: &VaeConfig) -> Result<Vec<UpBlock>> {
    let mut below = config.smallest_channels();
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
