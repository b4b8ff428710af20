//! Group norm, layer norm and softmax: mean and variance in two passes, in a fixed order.

use crate::check;
use crate::error::Result;
use crate::reference;

/// The sizes of a group norm over `[batch, channels, spatial]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupNormShape {
    /// Independent pictures.
    pub batch: usize,
    /// Channels of a picture.
    pub channels: usize,
    /// Pixels of a channel.
    pub spatial: usize,
    /// Groups that share mean and variance; divides `channels`.
    pub groups: usize,
}

/// Group norm: `out = (x - mean) / sqrt(variance + eps) * weight + bias` with the mean and the
/// (biased) variance of each group, and `weight` and `bias` `[channels]`.
///
/// # Errors
/// Where a slice does not match its shape, a dimension is zero or the groups do not divide.
pub fn group_norm(
    x: &[f32],
    shape: &GroupNormShape,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let per_group = check_groups(x, shape, weight, bias, out)?;
    let size = per_group * shape.spatial;
    for (i, (x, out)) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)).enumerate() {
        let first = i % shape.groups * per_group;
        let (weight, bias) = (&weight[first..][..per_group], &bias[first..][..per_group]);
        reference::group_norm(x, shape.spatial, weight, bias, eps, out);
    }
    Ok(())
}

/// [`group_norm`] followed by silu, in one pass less. The bits are those of the two in turn.
///
/// # Errors
/// As [`group_norm`].
pub fn group_norm_silu(
    x: &[f32],
    shape: &GroupNormShape,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    group_norm(x, shape, weight, bias, eps, out)?;
    for out in out {
        *out = reference::silu(*out);
    }
    Ok(())
}

fn check_groups(
    x: &[f32],
    shape: &GroupNormShape,
    weight: &[f32],
    bias: &[f32],
    out: &[f32],
) -> Result<usize> {
    let dimensions = [shape.batch, shape.channels, shape.spatial];
    check::length("the input", x, &dimensions)?;
    check::length("the output", out, &dimensions)?;
    check::length("the weight", weight, &[shape.channels])?;
    check::length("the bias", bias, &[shape.channels])?;
    check::quotient("the number of channels", shape.channels, shape.groups)
}

/// Layer norm of each row of `x` `[rows, width]` with `weight` and `bias` `[width]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn layer_norm(
    x: &[f32],
    rows: usize,
    width: usize,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    check::length("the input", x, &[rows, width])?;
    check::length("the output", out, &[rows, width])?;
    check::length("the weight", weight, &[width])?;
    check::length("the bias", bias, &[width])?;
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        reference::layer_norm(x, weight, bias, eps, out);
    }
    Ok(())
}

/// The softmax of each row of `x` `[rows, width]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn softmax(x: &[f32], rows: usize, width: usize, out: &mut [f32]) -> Result<()> {
    check::length("the input", x, &[rows, width])?;
    check::length("the output", out, &[rows, width])?;
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        reference::softmax(x, out);
    }
    Ok(())
}
