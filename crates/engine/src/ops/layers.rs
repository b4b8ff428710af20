//! Layers with weights, each loaded for one class of arithmetic: packed once for strict numerics, or left
//! as candle tensors for fast numerics.

use candle_core::Tensor;
use seedfarm_core::Numerics;
use seedfarm_numerics::conv::{ConvShape, Padding};
use seedfarm_numerics::{PackedConv2d, PackedLinear};

use super::{fast, strict};
use crate::Result;
use crate::weights::Weights;

/// A linear layer over the last dimension.
pub(crate) enum Linear {
    Strict(PackedLinear),
    Fast { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// Loads `weight` `[outputs, inputs]` and, where `has_bias`, `bias` `[outputs]`. A 1x1 convolution's
    /// weight, `[outputs, inputs, 1, 1]`, is the same layer and is taken too.
    pub fn load(weights: &Weights<'_>, inputs: usize, outputs: usize, has_bias: bool) -> Result<Self> {
        let pointwise = weights.rank("weight") == Some(4);
        let shape = if pointwise { vec![outputs, inputs, 1, 1] } else { vec![outputs, inputs] };
        let weight = weights.values("weight", &shape)?;
        let bias = has_bias.then(|| weights.values("bias", &[outputs])).transpose()?;
        let device = weights.ops().device();
        Ok(match weights.ops().numerics() {
            Numerics::Strict => Self::Strict(
                PackedLinear::new(&weight, outputs, inputs, bias.as_deref())
                    .map_err(candle_core::Error::wrap)?,
            ),
            Numerics::Fast => Self::Fast {
                weight: Tensor::from_vec(weight, (outputs, inputs), device)?,
                bias: bias.map(|bias| Tensor::from_vec(bias, outputs, device)).transpose()?,
            },
        })
    }

    /// `[.., inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Strict(packed) => strict::linear(x, packed),
            Self::Fast { weight, bias } => fast::linear(x, weight, bias.as_ref()),
        }
    }
}

/// Sizes of a square convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvConfig {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: Padding,
    pub has_bias: bool,
}

/// A square convolution.
pub(crate) enum Conv2d {
    Strict(PackedConv2d),
    Fast { weight: Tensor, bias: Option<Tensor>, padding: Padding, stride: usize },
}

impl Conv2d {
    /// Loads a convolution with a bias that keeps the size, or halves it with a stride of 2: the padding is
    /// half the kernel on every side.
    pub fn load(
        weights: &Weights<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        let padding = Padding::all(kernel / 2);
        Self::load_as(weights, ConvConfig { inputs, outputs, kernel, stride, padding, has_bias: true })
    }

    /// Loads `weight` `[outputs, inputs, kernel, kernel]` and, where it has one, `bias` `[outputs]`.
    pub fn load_as(weights: &Weights<'_>, config: ConvConfig) -> Result<Self> {
        let ConvConfig { inputs, outputs, kernel, stride, padding, has_bias } = config;
        let dims = [outputs, inputs, kernel, kernel];
        let weight = weights.values("weight", &dims)?;
        let bias = has_bias.then(|| weights.values("bias", &[outputs])).transpose()?;
        let device = weights.ops().device();
        let shape =
            ConvShape { out_channels: outputs, in_channels: inputs, kernel_h: kernel, kernel_w: kernel };
        Ok(match weights.ops().numerics() {
            Numerics::Strict => Self::Strict(
                PackedConv2d::new(&weight, shape, bias.as_deref(), stride, padding)
                    .map_err(candle_core::Error::wrap)?,
            ),
            Numerics::Fast => Self::Fast {
                weight: Tensor::from_vec(weight, &dims, device)?,
                bias: bias.map(|bias| Tensor::from_vec(bias, outputs, device)).transpose()?,
                padding,
                stride,
            },
        })
    }

    /// `[batch, inputs, h, w]` to `[batch, outputs, h', w']`, the padded size less the kernel, divided by the
    /// stride and rounded up.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Strict(packed) => strict::conv2d(x, packed),
            Self::Fast { weight, bias, padding, stride } => {
                fast::conv2d(x, weight, bias.as_ref(), *padding, *stride)
            }
        }
    }
}

/// The learnt factors and terms of a norm.
enum Affine {
    Strict { weight: Vec<f32>, bias: Vec<f32> },
    Fast { weight: Tensor, bias: Tensor },
}

impl Affine {
    fn load(weights: &Weights<'_>, channels: usize) -> Result<Self> {
        Ok(match weights.ops().numerics() {
            Numerics::Strict => Self::Strict {
                weight: weights.values("weight", &[channels])?,
                bias: weights.values("bias", &[channels])?,
            },
            Numerics::Fast => Self::Fast {
                weight: weights.tensor("weight", &[channels])?,
                bias: weights.tensor("bias", &[channels])?,
            },
        })
    }
}

/// Group norm over `[batch, channels, h, w]`.
pub(crate) struct GroupNorm {
    affine: Affine,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    pub fn load(weights: &Weights<'_>, groups: usize, channels: usize, epsilon: f64) -> Result<Self> {
        Ok(Self { affine: Affine::load(weights, channels)?, groups, epsilon })
    }

    /// The norm alone.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, false)
    }

    /// The norm, then silu, as nearly every norm of UNet and VAE is followed.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, true)
    }

    /// The norm, then silu, in the memory of `x`, which must be a result that nothing else holds.
    pub fn forward_silu_into(&self, x: Tensor) -> Result<Tensor> {
        match &self.affine {
            Affine::Strict { weight, bias } => {
                let affine = strict::Affine { weight, bias, epsilon: self.epsilon as f32 };
                strict::group_norm_silu_into(x, affine, self.groups)
            }
            Affine::Fast { .. } => self.run(&x, true),
        }
    }

    fn run(&self, x: &Tensor, activate: bool) -> Result<Tensor> {
        match &self.affine {
            Affine::Strict { weight, bias } => {
                let affine = strict::Affine { weight, bias, epsilon: self.epsilon as f32 };
                strict::group_norm(x, affine, self.groups, activate)
            }
            Affine::Fast { weight, bias } => {
                let normed = fast::group_norm(x, weight, bias, self.groups, self.epsilon)?;
                Ok(if activate { normed.silu()? } else { normed })
            }
        }
    }
}

/// Layer norm over the last dimension.
pub(crate) struct LayerNorm {
    affine: Affine,
    epsilon: f64,
}

impl LayerNorm {
    pub fn load(weights: &Weights<'_>, width: usize, epsilon: f64) -> Result<Self> {
        Ok(Self { affine: Affine::load(weights, width)?, epsilon })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.affine {
            Affine::Strict { weight, bias } => {
                strict::layer_norm(x, strict::Affine { weight, bias, epsilon: self.epsilon as f32 })
            }
            Affine::Fast { weight, bias } => fast::layer_norm(x, weight, bias, self.epsilon),
        }
    }
}
