//! The operations that models are written in, in two classes of arithmetic.
//!
//! Model files call [`Ops`] and the layers here and nothing else that computes, so that strict numerics
//! hold for every model by construction. `strict` hands each operation to `seedfarm-numerics`, `fast` to
//! candle.

mod fast;
mod layers;
mod strict;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};
use seedfarm_core::Numerics;

use crate::Result;

pub(crate) use self::layers::{Conv2d, ConvConfig, GroupNorm, LayerNorm, Linear};

/// How queries meet keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    /// Heads; they divide the width.
    pub heads: usize,
    /// Whether a query sees only the keys up to its own position.
    pub causal: bool,
}

/// The operations without weights, on one device in one class of arithmetic.
#[derive(Debug, Clone)]
pub(crate) struct Ops {
    numerics: Numerics,
    device: Device,
}

impl Ops {
    pub fn new(numerics: Numerics, device: Device) -> Self {
        Self { numerics, device }
    }

    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `x * sigmoid(x)`.
    pub fn silu(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::silu(x),
            Numerics::Fast => Ok(x.silu()?),
        }
    }

    /// `x * normal_cdf(x)`, by erf.
    pub fn gelu(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::gelu(x),
            Numerics::Fast => Ok(x.gelu_erf()?),
        }
    }

    /// `x * sigmoid(1.702 x)`.
    pub fn quick_gelu(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::quick_gelu(x),
            Numerics::Fast => fast::quick_gelu(x),
        }
    }

    /// 0 where `x` is less, else `x`.
    pub fn relu(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::relu(x),
            Numerics::Fast => Ok(x.relu()?),
        }
    }

    /// `tanh(x / limit) * limit`.
    pub fn tanh_clamp(&self, x: &Tensor, limit: f32) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::tanh_clamp(x, limit),
            Numerics::Fast => Ok(((x / f64::from(limit))?.tanh()? * f64::from(limit))?),
        }
    }

    /// `[.., 2 n]` to `[.., n]`: the first half times the gelu of the second.
    pub fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::geglu(x),
            Numerics::Fast => fast::geglu(x),
        }
    }

    /// The sum of two tensors of one shape.
    pub fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::add(a, b),
            Numerics::Fast => Ok((a + b)?),
        }
    }

    /// The same sum in the memory of `sum`, which must be a result that nothing else holds.
    pub fn add_into(&self, sum: Tensor, term: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::add_into(sum, term),
            Numerics::Fast => Ok((sum + term)?),
        }
    }

    /// `x` `[batch, channels, h, w]` plus one number a channel, `rows` `[1, channels]` for all samples or
    /// `[batch, channels]`, in the memory of `x`, which must be a result that nothing else holds.
    pub fn add_channels_into(&self, x: Tensor, rows: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::add_channels_into(x, rows),
            Numerics::Fast => Ok(x.broadcast_add(&rows.unsqueeze(2)?.unsqueeze(3)?)?),
        }
    }

    /// `x * factor`, element by element.
    pub fn scale(&self, x: &Tensor, factor: f32) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::scale(x, factor),
            Numerics::Fast => Ok((x * f64::from(factor))?),
        }
    }

    /// `[batch, rows, columns]` to a contiguous `[batch, columns, rows]`.
    pub fn transpose(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::transpose(x),
            Numerics::Fast => Ok(x.transpose(1, 2)?.contiguous()?),
        }
    }

    /// Each pixel of `[batch, channels, h, w]` four times: `[batch, channels, 2 h, 2 w]`.
    pub fn upsample2x(&self, x: &Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::upsample2x(x),
            Numerics::Fast => fast::upsample2x(x),
        }
    }

    /// `softmax(q k^T / sqrt(head width)) v`: `q` `[batch, queries, width]`, `k` and `v`
    /// `[batch, keys, width]`, the heads side by side in the width.
    pub fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, config: Attention) -> Result<Tensor> {
        match self.numerics {
            Numerics::Strict => strict::attention(q, k, v, config),
            Numerics::Fast => fast::attention(q, k, v, config),
        }
    }
}
