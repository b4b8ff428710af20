//! Group norm, layer norm and softmax: mean and variance in two passes, in a fixed order.

use crate::check;
use crate::elementwise::{Affine, CHUNK, Map, Squares, Sum, largest, map_in_place, map_slice, reduce};
use crate::error::Result;
use crate::gemm::Out;
use crate::isa::{Isa, Kernel};
use crate::math::exp_v;
use crate::parallel::{self, PASS, for_each_chunk};
use crate::simd::{Scalar, Simd};

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
    group_norm_then::<false>(x, shape, weight, bias, eps, out)
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
    group_norm_then::<true>(x, shape, weight, bias, eps, out)
}

/// [`group_norm_silu`] in place.
///
/// # Errors
/// As [`group_norm`].
pub fn group_norm_silu_in_place(
    x: &mut [f32],
    shape: &GroupNormShape,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) -> Result<()> {
    let per_group = check_groups(x, shape, weight, bias)?;
    run_groups::<true>(None, shape, per_group, (weight, bias, eps), x);
    Ok(())
}

fn group_norm_then<const SILU: bool>(
    x: &[f32],
    shape: &GroupNormShape,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let per_group = check_groups(x, shape, weight, bias)?;
    check::length("the output", out, &[shape.batch, shape.channels, shape.spatial])?;
    run_groups::<SILU>(Some(x), shape, per_group, (weight, bias, eps), out);
    Ok(())
}

/// Without `x` the input is in `out`.
fn run_groups<const SILU: bool>(
    x: Option<&[f32]>,
    shape: &GroupNormShape,
    per_group: usize,
    (weight, bias, eps): (&[f32], &[f32], f32),
    out: &mut [f32],
) {
    let isa = Isa::active();
    let (size, spatial) = (per_group * shape.spatial, shape.spatial);
    let work = PASS * out.len();
    let out = Out::new(out);
    parallel::for_each(shape.batch * shape.groups, work, |i| {
        let first = i % shape.groups * per_group;
        let (weight, bias) = (&weight[first..][..per_group], &bias[first..][..per_group]);
        // SAFETY: a job has a group of its own.
        let out = unsafe { out.slice(i * size, size) };
        isa.run(Group::<SILU> { x: x.map(|x| &x[i * size..][..size]), spatial, weight, bias, eps, out });
    });
}

/// One group: `x` is `[channels of the group, spatial]`.
struct Group<'a, const SILU: bool> {
    /// The input, if it is not in `out`.
    x: Option<&'a [f32]>,
    spatial: usize,
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl<const SILU: bool> Kernel for Group<'_, SILU> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let x = self.x.unwrap_or(self.out);
        let count = x.len() as f32;
        let mut sums = vec![0.0; self.weight.len()];
        for (sum, x) in sums.iter_mut().zip(x.chunks_exact(self.spatial)) {
            *sum = reduce(s, Sum, x);
        }
        let mean = reduce(s, Sum, &sums) / count;
        for (sum, x) in sums.iter_mut().zip(x.chunks_exact(self.spatial)) {
            *sum = reduce(s, Squares { mean }, x);
        }
        let inverse = 1.0 / (reduce(s, Sum, &sums) / count + self.eps).sqrt();
        for (i, out) in self.out.chunks_exact_mut(self.spatial).enumerate() {
            let affine = Affine::<SILU> { mean, factor: self.weight[i] * inverse, bias: self.bias[i] };
            match self.x {
                Some(x) => map_slice(s, affine, &x[i * self.spatial..][..self.spatial], out),
                None => map_in_place(s, affine, out),
            }
        }
    }
}

fn check_groups(x: &[f32], shape: &GroupNormShape, weight: &[f32], bias: &[f32]) -> Result<usize> {
    check::length("the input", x, &[shape.batch, shape.channels, shape.spatial])?;
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
    let isa = Isa::active();
    let size = CHUNK.div_ceil(width) * width;
    for_each_chunk((out, size), (x, size), |_, out, x| {
        isa.run(LayerRows { x, weight, bias, eps, out });
    });
    Ok(())
}

/// Some rows of a layer norm.
struct LayerRows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        let count = width as f32;
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let mean = reduce(s, Sum, x) / count;
            let inverse = 1.0 / (reduce(s, Squares { mean }, x) / count + self.eps).sqrt();
            let whole = width - width % S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                // SAFETY: `whole` is at most the length of all four.
                unsafe { normalise(s, i, (x, self.weight, self.bias), (mean, inverse), out) };
            }
            for i in whole..width {
                // SAFETY: `i` is an element of all four.
                unsafe { normalise(Scalar, i, (x, self.weight, self.bias), (mean, inverse), out) };
            }
        }
    }
}

/// `(x - mean) * (weight * inverse) + bias` for the elements from `i` on.
///
/// # Safety
/// All slices have a vector of elements there.
#[inline(always)]
unsafe fn normalise<S: Simd>(
    s: S,
    i: usize,
    (x, weight, bias): (&[f32], &[f32], &[f32]),
    (mean, inverse): (f32, f32),
    out: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let factor = s.mul(s.load(weight.as_ptr().add(i)), s.splat(inverse));
        let x = s.sub(s.load(x.as_ptr().add(i)), s.splat(mean));
        let y = s.fma(x, factor, s.load(bias.as_ptr().add(i)));
        s.store(out.as_mut_ptr().add(i), y);
    }
}

/// The softmax of each row of `x` `[rows, width]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn softmax(x: &[f32], rows: usize, width: usize, out: &mut [f32]) -> Result<()> {
    check::length("the input", x, &[rows, width])?;
    check::length("the output", out, &[rows, width])?;
    let isa = Isa::active();
    let size = CHUNK.div_ceil(width) * width;
    for_each_chunk((out, size), (x, size), |_, out, x| {
        isa.run(SoftmaxRows { x, width, out });
    });
    Ok(())
}

/// Some rows of a softmax.
struct SoftmaxRows<'a> {
    x: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.width;
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let most = largest(s, x);
            map_slice(s, ExpMinus(most), x, out);
            let total = reduce(s, Sum, out);
            divide(s, total, out);
        }
    }
}

/// `e^(x - most)`
#[derive(Clone, Copy)]
struct ExpMinus(f32);

impl Map for ExpMinus {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        exp_v(s, s.sub(x, s.splat(self.0)))
    }
}

/// Divides every element.
#[inline(always)]
fn divide<S: Simd>(s: S, by: f32, out: &mut [f32]) {
    let whole = out.len() - out.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `whole` is at most the length.
        unsafe {
            let at = out.as_mut_ptr().add(i);
            s.store(at, s.div(s.load(at), s.splat(by)));
        }
    }
    for x in &mut out[whole..] {
        *x /= by;
    }
}
