//! The way down to the smallest size and the block there: what a UNet and a ControlNet have in common.

use candle_core::Tensor;

use super::Plan;
use super::added::{Added, Conditions};
use super::blocks::DownBlock;
use super::time::TimeEmbedding;
use super::transformer::{AttentionKeys, Transformer};
use crate::Result;
use crate::config::unet::{MidConfig, TrunkConfig};
use crate::ops::{Conv2d, Ops};
use crate::resnet::Resnet;
use crate::weights::Weights;

/// A loaded way down.
pub(crate) struct Trunk {
    ops: Ops,
    time: TimeEmbedding,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
}

/// What the way down leaves behind.
pub(crate) struct Descent {
    /// The activated timestep embedding, for the way up.
    pub time: Tensor,
    /// The output at the smallest size.
    pub hidden: Tensor,
    /// The outputs of the first convolution, of each layer and of each downsampler.
    pub skips: Vec<Tensor>,
}

impl Trunk {
    /// `weights` is the network's own place.
    pub fn load(weights: &Weights<'_>, config: &TrunkConfig) -> Result<Self> {
        let plan = Plan { config };
        Ok(Self {
            ops: weights.ops().clone(),
            time: TimeEmbedding::load(weights, config)?,
            conv_in: Conv2d::load(&weights.at("conv_in"), config.in_channels, config.first_channels(), 3, 1)?,
            down: load_down(weights, &plan)?,
            mid: MidBlock::load(&weights.at("mid_block"), &plan)?,
        })
    }

    /// Prepares what the timestep is joined by.
    pub fn added(&self, samples: &[Conditions]) -> Result<Option<Added>> {
        self.time.added(samples)
    }

    /// The transformers, in the order in which the text is shown to them.
    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.down.iter().flat_map(|block| &block.attentions).chain(self.mid.attention())
    }

    /// Goes down from `[batch, in_channels, h, w]`. `hint`, `[batch, channels, h, w]`, joins the output of the
    /// first convolution.
    pub fn descend<'k>(
        &self,
        latents: &Tensor,
        timesteps: &[f64],
        added: Option<&Added>,
        hint: Option<&Tensor>,
        text: &mut impl Iterator<Item = &'k AttentionKeys>,
    ) -> Result<Descent> {
        let time = self.time.forward(timesteps, added, latents.dim(0)?)?;
        let mut hidden = self.conv_in.forward(latents)?;
        if let Some(hint) = hint {
            hidden = self.ops.add_into(hidden, hint)?;
        }
        let mut skips = vec![hidden.clone()];
        for block in &self.down {
            hidden = block.forward(hidden, &time, text, &mut skips)?;
        }
        let hidden = self.mid.forward(hidden, &time, text)?;
        Ok(Descent { time, hidden, skips })
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

/// The block at the smallest size: a residual layer, or two with attention between them, or nothing.
struct MidBlock {
    first: Option<Resnet>,
    crossed: Option<(Transformer, Resnet)>,
}

impl MidBlock {
    fn load(weights: &Weights<'_>, plan: &Plan<'_>) -> Result<Self> {
        let channels = plan.config.last_channels();
        let resnet = |index| Resnet::load(&weights.at("resnets").at(index), plan.resnet(channels, channels));
        let first = match plan.config.mid {
            MidConfig::Absent => None,
            MidConfig::Plain | MidConfig::Crossed(_) => Some(resnet(0)?),
        };
        let crossed = match &plan.config.mid {
            MidConfig::Absent | MidConfig::Plain => None,
            MidConfig::Crossed(attention) => Some((
                Transformer::load(&weights.at("attentions.0"), plan.transformer(channels, attention, 0))?,
                resnet(1)?,
            )),
        };
        Ok(Self { first, crossed })
    }

    fn attention(&self) -> Option<&Transformer> {
        self.crossed.as_ref().map(|(attention, _)| attention)
    }

    fn forward<'k>(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &mut impl Iterator<Item = &'k AttentionKeys>,
    ) -> Result<Tensor> {
        if let Some(first) = &self.first {
            hidden = first.forward(&hidden, Some(time))?;
        }
        if let Some((attention, second)) = &self.crossed {
            hidden = second.forward(&attention.forward(&hidden, text)?, Some(time))?;
        }
        Ok(hidden)
    }
}
