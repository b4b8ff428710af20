//! Strict numerics: the operations of `seedfarm-numerics` as custom operations of candle tensors.
//!
//! candle only carries the numbers from one to the next; it computes none of them.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, InplaceOp1, InplaceOp2, Layout, Shape, Tensor,
};
use seedfarm_numerics::norm::GroupNormShape;
use seedfarm_numerics::{
    AttentionShape, Mask, NumericsError, PackedConv2d, PackedLinear, attention as numerics_attention, norm,
    pointwise, prefer_large_pages,
};

use super::Attention;
use crate::Result;

type Done = std::result::Result<(), NumericsError>;

/// An operation on one tensor, as a function from its elements to the result's.
struct Op1<F> {
    name: &'static str,
    shape: Shape,
    run: F,
}

/// The same on two tensors.
struct Op2<F>(Op1<F>);

/// The same on three tensors.
struct Op3<F>(Op1<F>);

/// The elements of a contiguous `f32` tensor.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("strict operations take contiguous tensors"),
    }
}

impl<F> Op1<F> {
    fn finish(&self, run: impl FnOnce(&F, &mut [f32]) -> Done) -> candle_core::Result<(CpuStorage, Shape)> {
        let len = self.shape.elem_count();
        let mut out: Vec<f32> = Vec::with_capacity(len);
        // SAFETY: the memory is the vector's own. Every operation writes each element before it reads it,
        // which their tests hold by what was there before.
        let elements = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr(), len) };
        prefer_large_pages(elements);
        run(&self.run, elements).map_err(candle_core::Error::wrap)?;
        // SAFETY: written, where the operation did not refuse.
        unsafe { out.set_len(len) };
        Ok((CpuStorage::F32(out), self.shape.clone()))
    }
}

impl<F: Fn(&[f32], &mut [f32]) -> Done> CustomOp1 for Op1<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        self.finish(|run, out| run(x, out))
    }
}

impl<F: Fn(&[f32], &[f32], &mut [f32]) -> Done> CustomOp2 for Op2<F> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (a, b) = (elements(a, a_layout)?, elements(b, b_layout)?);
        self.0.finish(|run, out| run(a, b, out))
    }
}

impl<F: Fn(&[f32], &[f32], &[f32], &mut [f32]) -> Done> CustomOp3 for Op3<F> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        c: &CpuStorage,
        c_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (a, b, c) = (elements(a, a_layout)?, elements(b, b_layout)?, elements(c, c_layout)?);
        self.0.finish(|run, out| run(a, b, c, out))
    }
}

/// An operation that changes its first tensor.
struct InPlace<F> {
    name: &'static str,
    run: F,
}

/// The elements of a contiguous `f32` tensor, to be changed.
fn elements_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((start, end))) => Ok(&mut all[start..end]),
        _ => candle_core::bail!("strict operations take contiguous f32 tensors"),
    }
}

impl<F: Fn(&mut [f32]) -> Done> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        (self.run)(elements_mut(x, layout)?).map_err(candle_core::Error::wrap)
    }
}

impl<F: Fn(&mut [f32], &[f32]) -> Done> InplaceOp2 for InPlace<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (a, b) = (elements_mut(a, a_layout)?, elements(b, b_layout)?);
        (self.run)(a, b).map_err(candle_core::Error::wrap)
    }
}

fn map<F>(name: &'static str, x: &Tensor, shape: impl Into<Shape>, run: F) -> Result<Tensor>
where
    F: Fn(&[f32], &mut [f32]) -> Done,
{
    Ok(x.contiguous()?.apply_op1_no_bwd(&Op1 { name, shape: shape.into(), run })?)
}

fn zip<F>(name: &'static str, a: &Tensor, b: &Tensor, run: F) -> Result<Tensor>
where
    F: Fn(&[f32], &[f32], &mut [f32]) -> Done,
{
    let shape = a.shape().clone();
    Ok(a.contiguous()?.apply_op2_no_bwd(&b.contiguous()?, &Op2(Op1 { name, shape, run }))?)
}

/// Rows and width of a tensor seen as rows of its last dimension.
fn rows(x: &Tensor) -> Result<(usize, usize)> {
    let width = x.dim(candle_core::D::Minus1)?;
    Ok((x.elem_count() / width.max(1), width))
}

fn with_last(x: &Tensor, width: usize) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = width;
    }
    dims
}

pub(super) fn silu(x: &Tensor) -> Result<Tensor> {
    map("silu", x, x.shape(), pointwise::silu)
}

pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    map("gelu", x, x.shape(), pointwise::gelu)
}

pub(super) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    map("quick_gelu", x, x.shape(), pointwise::quick_gelu)
}

pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    map("relu", x, x.shape(), pointwise::relu)
}

pub(super) fn tanh_clamp(x: &Tensor, limit: f32) -> Result<Tensor> {
    map("tanh_clamp", x, x.shape(), |x, out| pointwise::tanh_clamp(x, limit, out))
}

pub(super) fn geglu(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = rows(x)?;
    let half = width / 2;
    map("geglu", x, with_last(x, half), |x, out| pointwise::geglu(x, rows, half, out))
}

pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    zip("add", a, b, pointwise::add)
}

/// `sum` plus `term`, in the memory of `sum`.
pub(super) fn add_into(sum: Tensor, term: &Tensor) -> Result<Tensor> {
    let sum = sum.contiguous()?;
    sum.inplace_op2(&term.contiguous()?, &InPlace { name: "add_into", run: pointwise::add_assign })?;
    Ok(sum)
}

pub(super) fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    map("scale", x, x.shape(), |x, out| pointwise::scale(x, factor, out))
}

/// `x` `[batch, channels, h, w]` plus `rows` `[1 or batch, channels]`, in the memory of `x`.
pub(super) fn add_channels_into(x: Tensor, rows: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let x = x.contiguous()?;
    let rows = rows.broadcast_as((batch, channels))?.contiguous()?;
    let run = |x: &mut [f32], bias: &[f32]| {
        pointwise::add_channels_assign(x, bias, batch * channels, height * width)
    };
    x.inplace_op2(&rows, &InPlace { name: "add_channels_into", run })?;
    Ok(x)
}

pub(super) fn transpose(x: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns) = x.dims3()?;
    map("transpose", x, (batch, columns, rows), |x, out| pointwise::transpose(x, batch, rows, columns, out))
}

pub(super) fn upsample2x(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    map("upsample2x", x, (batch, channels, 2 * height, 2 * width), |x, out| {
        pointwise::upsample_nearest_2x(x, batch * channels, height, width, out)
    })
}

pub(super) fn linear(x: &Tensor, packed: &PackedLinear) -> Result<Tensor> {
    let (rows, _) = rows(x)?;
    map("linear", x, with_last(x, packed.out_features()), |x, out| packed.forward(x, rows, out))
}

pub(super) fn conv2d(x: &Tensor, packed: &PackedConv2d) -> Result<Tensor> {
    let (batch, _, height, width) = x.dims4()?;
    let (out_height, out_width) = packed.out_size(height, width).map_err(candle_core::Error::wrap)?;
    let shape = (batch, packed.shape().out_channels, out_height, out_width);
    map("conv2d", x, shape, |x, out| packed.forward(x, batch, height, width, out))
}

/// Weight, bias and epsilon of a norm.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f32,
}

pub(super) fn layer_norm(x: &Tensor, affine: Affine<'_>) -> Result<Tensor> {
    let (rows, width) = rows(x)?;
    map("layer_norm", x, x.shape(), |x, out| {
        norm::layer_norm(x, rows, width, affine.weight, affine.bias, affine.epsilon, out)
    })
}

/// Group norm, followed by silu if `activate`.
pub(super) fn group_norm(x: &Tensor, affine: Affine<'_>, groups: usize, activate: bool) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let shape = GroupNormShape { batch, channels, spatial: height * width, groups };
    let norm = if activate { norm::group_norm_silu } else { norm::group_norm };
    map("group_norm", x, x.shape(), |x, out| norm(x, &shape, affine.weight, affine.bias, affine.epsilon, out))
}

/// Group norm followed by silu, in the memory of `x`.
pub(super) fn group_norm_silu_into(x: Tensor, affine: Affine<'_>, groups: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let shape = GroupNormShape { batch, channels, spatial: height * width, groups };
    let x = x.contiguous()?;
    let run =
        |x: &mut [f32]| norm::group_norm_silu_in_place(x, &shape, affine.weight, affine.bias, affine.epsilon);
    x.inplace_op1(&InPlace { name: "group_norm_silu_into", run })?;
    Ok(x)
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, config: Attention) -> Result<Tensor> {
    let (batch, q_len, width) = q.dims3()?;
    let head_dim = width / config.heads;
    let sizes = AttentionShape { batch, heads: config.heads, q_len, kv_len: k.dim(1)?, head_dim };
    let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
    let mask = if config.causal { Mask::Causal } else { Mask::None };
    let run = |q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]| {
        numerics_attention(q, k, v, &sizes, scale, mask, out)
    };
    let op = Op3(Op1 { name: "attention", shape: q.shape().clone(), run });
    Ok(q.contiguous()?.apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &op)?)
}
