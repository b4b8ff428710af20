//! The denoising UNet of Stable Diffusion 1 and 2.
//!
//! Reference: diffusers' `UNet2DConditionModel`. One file a part: `time` (the timestep embedding),
//! `transformer` (cross-attention), `blocks` (the blocks on the way down and up).

mod blocks;
mod time;
mod transformer;

use candle_core::Tensor;

use self::blocks::{DownBlock, UpBlock};
use self::time::TimeEmbedding;
use self::transformer::{Transformer, TransformerConfig};
use crate::Result;
use crate::config::unet::{AttentionConfig, UnetConfig};
use crate::ops::{Conv2d, GroupNorm, Ops};
use crate::resnet::{Resnet, ResnetConfig};
use crate::weights::{Weights, WeightsFile};

pub(crate) use self::transformer::AttentionKeys;

/// A loaded UNet.
pub(crate) struct Unet {
    ops: Ops,
    config: UnetConfig,
    time: TimeEmbedding,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// What the layers of one UNet have in common while it is loaded.
struct Plan<'a> {
    config: &'a UnetConfig,
    time_width: usize,
}

impl Plan<'_> {
    fn resnet(&self, in_channels: usize, out_channels: usize) -> ResnetConfig {
        ResnetConfig {
            in_channels,
            out_channels,
            norm_groups: self.config.norm_groups,
            norm_epsilon: self.config.norm_epsilon,
            time_width: Some(self.time_width),
        }
    }

    fn transformer(&self, channels: usize, attention: AttentionConfig) -> TransformerConfig {
        TransformerConfig {
            channels,
            attention,
            text_width: self.config.text_width,
            norm_groups: self.config.norm_groups,
        }
    }
}

impl Unet {
    /// Takes the UNet out of its weights; a tensor that no layer asked for is an error.
    pub fn load(file: &WeightsFile, ops: &Ops, config: UnetConfig) -> Result<Self> {
        let weights = file.root(ops);
        let first = config.down[0].channels;
        let plan = Plan { config: &config, time_width: 4 * first };
        let unet = Self {
            ops: ops.clone(),
            time: TimeEmbedding::load(&weights.at("time_embedding"), &config)?,
            conv_in: Conv2d::load(&weights.at("conv_in"), config.in_channels, first, 3, 1)?,
            down: load_down(&weights, &plan)?,
            mid: MidBlock::load(&weights.at("mid_block"), &plan)?,
            up: load_up(&weights, &plan)?,
            norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                config.norm_groups,
                first,
                config.norm_epsilon,
            )?,
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

    /// The keys and values of every cross-attention for a batch of texts, `[batch, window, width]`.
    /// They do not depend on the timestep, so they are computed once an image.
    pub fn text_keys(&self, texts: &Tensor) -> Result<Vec<AttentionKeys>> {
        let down = self.down.iter().flat_map(|block| &block.attentions);
        let up = self.up.iter().flat_map(|block| &block.attentions);
        let transformers = down.chain([&self.mid.attention]).chain(up);
        let mut keys = Vec::new();
        for transformer in transformers {
            transformer.push_text_keys(texts, &mut keys)?;
        }
        Ok(keys)
    }

    /// Predicts from latents `[batch, in_channels, h, w]` at one timestep for the whole batch.
    pub fn forward(&self, latents: &Tensor, timestep: f64, text_keys: &[AttentionKeys]) -> Result<Tensor> {
        let time = self.ops.silu(&self.time.forward(timestep)?)?;
        let mut text = text_keys.iter();
        let mut hidden = self.conv_in.forward(latents)?;
        let mut skips = vec![hidden.clone()];
        for block in &self.down {
            hidden = block.forward(hidden, &time, &mut text, &mut skips)?;
        }
        hidden = self.mid.forward(&hidden, &time, &mut text)?;
        for block in &self.up {
            hidden = block.forward(hidden, &time, &mut text, &mut skips)?;
        }
        self.conv_out.forward(&self.norm_out.forward_silu_into(hidden)?)
    }
}

fn load_down(weights: &Weights<'_>, plan: &Plan<'_>) -> Result<Vec<DownBlock>> {
    let blocks = &plan.config.down;
    let mut channels = blocks[0].channels;
    let mut loaded = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        let last = index + 1 == blocks.len();
        loaded.push(DownBlock::load(&weights.at("down_blocks").at(index), plan, channels, block, !last)?);
        channels = block.channels;
    }
    Ok(loaded)
}

fn load_up(weights: &Weights<'_>, plan: &Plan<'_>) -> Result<Vec<UpBlock>> {
    let blocks = &plan.config.up;
    let mut channels = blocks[0].channels;
    let mut loaded = Vec::with_capacity(blocks.len());
    for (index, block) in blocks.iter().enumerate() {
        let above = blocks.get(index + 1);
        let skip_out = above.unwrap_or(block).channels;
        loaded.push(UpBlock::load(
            &weights.at("up_blocks").at(index),
            plan,
            channels,
            skip_out,
            block,
            above.is_some(),
        )?);
        channels = block.channels;
    }
    Ok(loaded)
}

/// The block at the smallest size: residual, attention, residual.
struct MidBlock {
    first: Resnet,
    attention: Transformer,
    second: Resnet,
}

impl MidBlock {
    fn load(weights: &Weights<'_>, plan: &Plan<'_>) -> Result<Self> {
        let channels = plan.config.up[0].channels;
        let resnet = |index| Resnet::load(&weights.at("resnets").at(index), plan.resnet(channels, channels));
        Ok(Self {
            first: resnet(0)?,
            attention: Transformer::load(
                &weights.at("attentions.0"),
                plan.transformer(channels, plan.config.mid),
            )?,
            second: resnet(1)?,
        })
    }

    fn forward<'k>(
        &self,
        hidden: &Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'k AttentionKeys>,
    ) -> Result<Tensor> {
        let hidden = self.first.forward(hidden, Some(time))?;
        let hidden = self.attention.forward(&hidden, text)?;
        self.second.forward(&hidden, Some(time))
    }
}
