//! The denoising UNet of Stable Diffusion 1, 2 and XL.
//!
//! Reference: diffusers' `UNet2DConditionModel`. One file a part: `time` (the timestep embedding), `added`
//! (what joins it), `transformer` (cross-attention), `blocks` (the blocks on the way down and up), `trunk`
//! (the way down, which ControlNets share), `residuals` (what a ControlNet adds).

mod added;
mod blocks;
mod residuals;
mod time;
mod transformer;
mod trunk;

use candle_core::Tensor;

use self::blocks::UpBlock;
use self::transformer::TransformerConfig;
use crate::Result;
use crate::config::unet::{AttentionConfig, TrunkConfig, UnetConfig};
use crate::ops::{Conv2d, GroupNorm, Ops};
use crate::resnet::ResnetConfig;
use crate::weights::{Weights, WeightsFile};

pub(crate) use self::added::{Added, Conditions};
pub(crate) use self::residuals::Residuals;
pub(crate) use self::transformer::{AttentionKeys, text_keys};
pub(crate) use self::trunk::Trunk;

/// A loaded UNet.
pub(crate) struct Unet {
    ops: Ops,
    config: UnetConfig,
    trunk: Trunk,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// What the layers of one network have in common while it is loaded.
struct Plan<'a> {
    config: &'a TrunkConfig,
}

impl Plan<'_> {
    fn resnet(&self, in_channels: usize, out_channels: usize) -> ResnetConfig {
        ResnetConfig {
            in_channels,
            out_channels,
            norm_groups: self.config.norm_groups,
            norm_epsilon: self.config.norm_epsilon,
            time_width: Some(self.config.embedding_width()),
        }
    }

    /// The transformer behind a block's layer `layer`.
    fn transformer(&self, channels: usize, attention: &AttentionConfig, layer: usize) -> TransformerConfig {
        TransformerConfig {
            channels,
            heads: attention.heads,
            depth: attention.depths[layer],
            text_width: self.config.text_width,
            norm_groups: self.config.norm_groups,
        }
    }
}

impl Unet {
    /// Takes the UNet out of its weights; a tensor that no layer asked for is an error.
    pub fn load(file: &WeightsFile, ops: &Ops, config: UnetConfig) -> Result<Self> {
        let weights = file.root(ops);
        let trunk = &config.trunk;
        let first = trunk.first_channels();
        let norm_out = weights.at("conv_norm_out");
        let unet = Self {
            ops: ops.clone(),
            trunk: Trunk::load(&weights, trunk)?,
            up: load_up(&weights, &config)?,
            norm_out: GroupNorm::load(&norm_out, trunk.norm_groups, first, trunk.norm_epsilon)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), first, config.out_channels, 3, 1)?,
            config,
        };
        file.expect_all_read(&[])?;
        Ok(unet)
    }

    /// The UNet's sizes.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// The keys and values of every cross-attention for a batch of texts, `[batch, tokens, width]`.
    /// They do not depend on the timestep, so they are computed once an image.
    pub fn text_keys(&self, texts: &Tensor) -> Result<Vec<AttentionKeys>> {
        let up = self.up.iter().flat_map(|block| &block.attentions);
        text_keys(self.trunk.transformers().chain(up), texts)
    }

    /// Prepares what the timestep is joined by, for a batch of samples; nothing where the network takes
    /// nothing more. It does not depend on the timestep either.
    ///
    /// Errors: a sample without the pooled text that the network needs, or with one of another width.
    pub fn added(&self, samples: &[Conditions]) -> Result<Option<Added>> {
        self.trunk.added(samples)
    }

    /// Predicts from latents `[batch, in_channels, h, w]`: `[batch, out_channels, h, w]`.
    ///
    /// `timesteps` holds one for all samples or one for each; a sample's bits are the same either way.
    /// `text_keys` and `added` were prepared by this network for as many samples.
    pub fn forward(
        &self,
        latents: &Tensor,
        timesteps: &[f64],
        text_keys: &[AttentionKeys],
        added: Option<&Added>,
        residuals: Option<&Residuals>,
    ) -> Result<Tensor> {
        let mut text = text_keys.iter();
        let descent = self.trunk.descend(latents, timesteps, added, None, &mut text)?;
        let (mut hidden, mut skips) = (descent.hidden, descent.skips);
        if let Some(residuals) = residuals {
            skips = residuals.add_to_skips(&self.ops, skips)?;
            hidden = residuals.add_to_mid(&self.ops, &hidden)?;
        }
        for block in &self.up {
            hidden = block.forward(hidden, &descent.time, &mut text, &mut skips)?;
        }
        self.conv_out.forward(&self.norm_out.forward_silu_into(hidden)?)
    }
}

fn load_up(weights: &Weights<'_>, config: &UnetConfig) -> Result<Vec<UpBlock>> {
    let (plan, blocks) = (Plan { config: &config.trunk }, &config.up);
    let mut channels = blocks[0].channels;
    let mut loaded = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        let above = blocks.get(index + 1);
        let skip_out = above.unwrap_or(block).channels;
        loaded.push(UpBlock::load(
            &weights.at("up_blocks").at(index),
            &plan,
            channels,
            skip_out,
            block,
            above.is_some(),
        )?);
        channels = block.channels;
    }
    Ok(loaded)
}
