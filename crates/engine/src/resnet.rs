//! The residual layer that UNet and VAE share.
//!
//! Reference: diffusers' `ResnetBlock2D` with `time_scale_shift` `default` and an output scale of 1.

use candle_core::Tensor;

use crate::Result;
use crate::ops::{Conv2d, GroupNorm, Linear, Ops};
use crate::weights::Weights;

/// Sizes of a residual layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResnetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    pub norm_groups: usize,
    pub norm_epsilon: f64,
    /// Width of the timestep embedding; absent in the VAE.
    pub time_width: Option<usize>,
}

/// Two normed convolutions beside a shortcut, with the timestep added between them.
pub(crate) struct Resnet {
    ops: Ops,
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    pub fn load(weights: &Weights<'_>, config: ResnetConfig) -> Result<Self> {
        let ResnetConfig { in_channels, out_channels, norm_groups, norm_epsilon, time_width } = config;
        let norm = |name, channels| GroupNorm::load(&weights.at(name), norm_groups, channels, norm_epsilon);
        let shortcut = (in_channels != out_channels)
            .then(|| Conv2d::load(&weights.at("conv_shortcut"), in_channels, out_channels, 1, 1));
        Ok(Self {
            ops: weights.ops().clone(),
            norm1: norm("norm1", in_channels)?,
            conv1: Conv2d::load(&weights.at("conv1"), in_channels, out_channels, 3, 1)?,
            time: time_width
                .map(|width| Linear::load(&weights.at("time_emb_proj"), width, out_channels, true))
                .transpose()?,
            norm2: norm("norm2", out_channels)?,
            conv2: Conv2d::load(&weights.at("conv2"), out_channels, out_channels, 3, 1)?,
            shortcut: shortcut.transpose()?,
        })
    }

    /// `[batch, in_channels, h, w]` to `[batch, out_channels, h, w]`. `time` is the activated timestep
    /// embedding, `[rows, 1, time_width]`: one row for all samples or one for each.
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let ops = &self.ops;
        let mut hidden = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        if let (Some(project), Some(time)) = (&self.time, time) {
            hidden = ops.add_channels_into(hidden, &project.forward(time)?.squeeze(1)?)?;
        }
        let hidden = self.conv2.forward(&self.norm2.forward_silu_into(hidden)?)?;
        match &self.shortcut {
            Some(shortcut) => ops.add_into(hidden, &shortcut.forward(x)?),
            None => ops.add_into(hidden, x),
        }
    }
}
