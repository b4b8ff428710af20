//! Fast numerics: candle's own operations, on whatever device candle drives.
//!
//! On the CPU every product of matrices is computed one sample at a time, so that its shape, and with it
//! the order of its sums, does not depend on the batch. Elsewhere the caller keeps the batch's shape fixed.

use candle_core::{D, DType, Device, Module, Tensor};

use seedfarm_numerics::Padding;

use super::Attention;
use crate::Result;

/// Rows of queries whose scores are held at once, which bounds memory at large sizes.
const QUERY_ROWS: usize = 1024;

pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !x.device().is_cpu() || x.rank() != 3 {
        return Ok(candle_nn::Linear::new(weight.clone(), bias.cloned()).forward(x)?);
    }
    // candle folds the batch into the rows even of a batched product with one weight, and its kernels
    // differ by the number of rows: so one call a sample.
    let weight = weight.t()?;
    let sample = |index| Ok(x.get(index)?.matmul(&weight)?);
    let products = (0..x.dim(0)?).map(sample).collect::<Result<Vec<Tensor>>>()?;
    let product = Tensor::stack(&products, 0)?;
    Ok(match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    })
}

pub(super) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    padding: Padding,
    stride: usize,
) -> Result<Tensor> {
    let Padding { top, bottom, left, right } = padding;
    let product = if padding == Padding::all(top) {
        x.conv2d(weight, top, stride, 1, 1)?
    } else {
        let padded = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
        padded.conv2d(weight, 0, stride, 1, 1)?
    };
    Ok(match bias {
        Some(bias) => product.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
        None => product,
    })
}

pub(super) fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    epsilon: f64,
) -> Result<Tensor> {
    let channels = x.dim(1)?;
    Ok(candle_nn::GroupNorm::new(weight.clone(), bias.clone(), channels, groups, epsilon)?.forward(x)?)
}

/// Not candle's fused layer norm, which takes the variance as the mean of squares less the square of the
/// mean and so loses digits.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    Ok(candle_nn::ops::layer_norm_slow(x, weight, bias, epsilon as f32)?)
}

pub(super) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Ok((x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?)
}

pub(super) fn geglu(x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, D::Minus1)?;
    Ok((&halves[0] * halves[1].gelu_erf()?)?)
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, shape: Attention) -> Result<Tensor> {
    let (batch, rows, width) = q.dims3()?;
    let head_width = width / shape.heads;
    let split = |x: &Tensor| -> Result<Tensor> {
        Ok(x.reshape((batch, x.dim(1)?, shape.heads, head_width))?.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (split(q)?, split(k)?.t()?.contiguous()?, split(v)?);
    let scale = 1.0 / (head_width as f64).sqrt();
    let mut blocks = Vec::with_capacity(rows.div_ceil(QUERY_ROWS));
    for first in (0..rows).step_by(QUERY_ROWS) {
        let block = QUERY_ROWS.min(rows - first);
        let mut scores = (q.narrow(2, first, block)?.contiguous()?.matmul(&k)? * scale)?;
        if shape.causal {
            scores = scores.broadcast_add(&causal_mask(first, block, rows, q.device())?)?;
        }
        blocks.push(candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?);
    }
    Ok(Tensor::cat(&blocks, 2)?.transpose(1, 2)?.reshape((batch, rows, width))?)
}

/// Minus infinity wherever a key lies after its query.
fn causal_mask(first: usize, block: usize, keys: usize, device: &Device) -> Result<Tensor> {
    let after = |query: usize, key: usize| if key > query { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> =
        (first..first + block).flat_map(|query| (0..keys).map(move |key| after(query, key))).collect();
    Ok(Tensor::from_vec(mask, (block, keys), device)?.to_dtype(DType::F32)?)
}

pub(super) fn upsample2x(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    Ok(x.upsample_nearest2d(2 * height, 2 * width)?)
}
