//! The blocks on the way down and up, with or without cross-attention.
//!
//! Reference: diffusers' `DownBlock2D`, `CrossAttnDownBlock2D`, `UpBlock2D`, `CrossAttnUpBlock2D`.

use candle_core::Tensor;

use super::Plan;
use super::transformer::{AttentionKeys, Transformer};
use crate::config::unet::BlockConfig;
use crate::ops::{Conv2d, Ops};
use crate::resnet::Resnet;
use crate::weights::Weights;
use crate::{Error, Result};

fn load_attentions(weights: &Weights<'_>, plan: &Plan<'_>, block: &BlockConfig) -> Result<Vec<Transformer>> {
    let Some(attention) = &block.attention else { return Ok(Vec::new()) };
    let load = |index: usize| {
        let config = plan.transformer(block.channels, attention, index);
        Transformer::load(&weights.at("attentions").at(index), config)
    };
    (0..block.layers).map(load).collect()
}

/// Some residual layers, each with its cross-attention, then a halving of the size.
pub(super) struct DownBlock {
    resnets: Vec<Resnet>,
    /// As many as there are residual layers, or none.
    pub attentions: Vec<Transformer>,
    downsample: Option<Conv2d>,
}

impl DownBlock {
    pub fn load(
        weights: &Weights<'_>,
        plan: &Plan<'_>,
        in_channels: usize,
        block: &BlockConfig,
        downsample: bool,
    ) -> Result<Self> {
        let channels = block.channels;
        let resnet = |index: usize| {
            let input = if index == 0 { in_channels } else { channels };
            Resnet::load(&weights.at("resnets").at(index), plan.resnet(input, channels))
        };
        let downsample =
            downsample.then(|| Conv2d::load(&weights.at("downsamplers.0.conv"), channels, channels, 3, 2));
        Ok(Self {
            resnets: (0..block.layers).map(resnet).collect::<Result<_>>()?,
            attentions: load_attentions(weights, plan, block)?,
            downsample: downsample.transpose()?,
        })
    }

    /// Runs the block; every layer's output is pushed to `skips` for the way up.
    pub fn forward<'k>(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'k AttentionKeys>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (index, resnet) in self.resnets.iter().enumerate() {
            hidden = resnet.forward(&hidden, Some(time))?;
            if let Some(attention) = self.attentions.get(index) {
                hidden = attention.forward(&hidden, text)?;
            }
            skips.push(hidden.clone());
        }
        if let Some(downsample) = &self.downsample {
            hidden = downsample.forward(&hidden)?;
            skips.push(hidden.clone());
        }
        Ok(hidden)
    }
}

/// Some residual layers over the output joined with a skip each, then a doubling of the size.
pub(super) struct UpBlock {
    ops: Ops,
    resnets: Vec<Resnet>,
    /// As many as there are residual layers, or none.
    pub attentions: Vec<Transformer>,
    upsample: Option<Conv2d>,
}

impl UpBlock {
    /// `in_channels` come from the block below; the last layer's skip has `last_skip_channels`.
    pub fn load(
        weights: &Weights<'_>,
        plan: &Plan<'_>,
        in_channels: usize,
        last_skip_channels: usize,
        block: &BlockConfig,
        upsample: bool,
    ) -> Result<Self> {
        let (channels, layers) = (block.channels, block.layers);
        let resnet = |index: usize| {
            let below = if index == 0 { in_channels } else { channels };
            let skip = if index + 1 == layers { last_skip_channels } else { channels };
            Resnet::load(&weights.at("resnets").at(index), plan.resnet(below + skip, channels))
        };
        let upsample =
            upsample.then(|| Conv2d::load(&weights.at("upsamplers.0.conv"), channels, channels, 3, 1));
        Ok(Self {
            ops: weights.ops().clone(),
            resnets: (0..layers).map(resnet).collect::<Result<_>>()?,
            attentions: load_attentions(weights, plan, block)?,
            upsample: upsample.transpose()?,
        })
    }

    /// Runs the block, taking its skips from the end of `skips`.
    pub fn forward<'k>(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'k AttentionKeys>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (index, resnet) in self.resnets.iter().enumerate() {
            let skip = skips
                .pop()
                .ok_or_else(|| Error::Recipe("the UNet has more layers up than down".to_owned()))?;
            hidden = resnet.forward(&Tensor::cat(&[&hidden, &skip], 1)?, Some(time))?;
            if let Some(attention) = self.attentions.get(index) {
                hidden = attention.forward(&hidden, text)?;
            }
        }
        match (&self.upsample, skips.last()) {
            (Some(upsample), Some(next)) => {
                let (_, _, height, width) = next.dims4()?;
                upsample.forward(&self.enlarge(&hidden, height, width)?)
            }
            _ => Ok(hidden),
        }
    }

    /// Doubles the size and cuts it to that of the next skip, which is one less where the size above was
    /// odd. This is what nearest-neighbour interpolation to that size does.
    fn enlarge(&self, hidden: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let doubled = self.ops.upsample2x(hidden)?;
        Ok(doubled.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()?)
    }
}
