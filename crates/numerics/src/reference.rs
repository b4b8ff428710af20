//! The definition of every operation, in the plainest scalar Rust.
//!
//! These are slow, single-threaded and without checks beyond the slices' own; they exist to be
//! read and to be compared with. `docs/DETERMINISM.md` says the same in words. Arguments mean what
//! they mean in the fast function of the same name.

use crate::attention::{AttentionShape, Mask};
use crate::conv::{ConvShape, Padding};
use crate::math;

/// Partial sums of a reduction.
pub const PARTIAL_SUMS: usize = 32;

/// `start + sum of a * b` as one chain of fused multiply-adds, in the order of the pairs.
pub fn dot(start: f32, pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    pairs.fold(start, |sum, (a, b)| a.mul_add(b, sum))
}

/// The sum of `x`: partial sum `j` takes the elements `i = j (mod 32)` in order, and the partial
/// sums are folded in halves (16, 8, 4, 2, 1), the upper onto the lower.
#[must_use]
pub fn sum(x: &[f32]) -> f32 {
    fold(x, |partial, x| partial + x)
}

/// The sum of the squares of `x - mean`, in the same order, each step fused.
#[must_use]
pub fn sum_of_squares(x: &[f32], mean: f32) -> f32 {
    fold(x, |partial, x| (x - mean).mul_add(x - mean, partial))
}

fn fold(x: &[f32], step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut partial = [0.0f32; PARTIAL_SUMS];
    for (i, &x) in x.iter().enumerate() {
        partial[i % PARTIAL_SUMS] = step(partial[i % PARTIAL_SUMS], x);
    }
    let mut half = PARTIAL_SUMS / 2;
    while half > 0 {
        for j in 0..half {
            partial[j] += partial[j + half];
        }
        half /= 2;
    }
    partial[0]
}

/// `x` `[rows, in]` times the transpose of `weight` `[out, in]`, each chain begun at its bias.
pub fn linear(x: &[f32], weight: &[f32], in_features: usize, bias: Option<&[f32]>, out: &mut [f32]) {
    let out_features = weight.len() / in_features;
    for (x, out) in x.chunks_exact(in_features).zip(out.chunks_exact_mut(out_features)) {
        for (o, (out, weight)) in out.iter_mut().zip(weight.chunks_exact(in_features)).enumerate() {
            let start = bias.map_or(0.0, |bias| bias[o]);
            *out = dot(start, x.iter().copied().zip(weight.iter().copied()));
        }
    }
}

/// `a` `[batch, m, k]` times `b` `[batch, k, n]`.
pub fn batched_matmul(a: &[f32], b: &[f32], out: &mut [f32], m: usize, k: usize, n: usize) {
    for (index, out) in out.iter_mut().enumerate() {
        let (batch, i, j) = (index / (m * n), index / n % m, index % n);
        let a = &a[(batch * m + i) * k..][..k];
        let b = &b[batch * k * n..][..k * n];
        *out = dot(0.0, (0..k).map(|p| (a[p], b[p * n + j])));
    }
}

/// A convolution of one picture `x` `[c, h, w]`. The chain runs over channel, kernel row and
/// kernel column, begun at the bias; places outside the picture hold +0 and take part.
pub fn conv2d(
    x: &[f32],
    (h, w): (usize, usize),
    weight: &[f32],
    shape: &ConvShape,
    bias: Option<&[f32]>,
    (stride, padding): (usize, Padding),
    out: &mut [f32],
) {
    let (kh, kw) = (shape.kernel_h, shape.kernel_w);
    let out_w = (w + padding.left + padding.right - kw) / stride + 1;
    let out_h = (h + padding.top + padding.bottom - kh) / stride + 1;
    let taps = shape.in_channels * kh * kw;
    for (index, out) in out.iter_mut().enumerate() {
        let (o, oy, ox) = (index / (out_h * out_w), index / out_w % out_h, index % out_w);
        let pixel = |tap: usize| {
            let (c, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let y = (oy * stride + ky).checked_sub(padding.top).filter(|&y| y < h);
            let x_at = (ox * stride + kx).checked_sub(padding.left).filter(|&x| x < w);
            y.zip(x_at).map_or(0.0, |(y, x_at)| x[(c * h + y) * w + x_at])
        };
        let weight = &weight[o * taps..][..taps];
        *out = dot(bias.map_or(0.0, |bias| bias[o]), (0..taps).map(|tap| (weight[tap], pixel(tap))));
    }
}

/// Attention of every query of every head over all keys.
pub fn attention(
    (q, k, v): (&[f32], &[f32], &[f32]),
    shape: &AttentionShape,
    scale: f32,
    mask: Mask,
    out: &mut [f32],
) {
    let (d, width) = (shape.head_dim, shape.heads * shape.head_dim);
    for batch_head in 0..shape.batch * shape.heads {
        let (batch, head) = (batch_head / shape.heads, batch_head % shape.heads);
        let row = |x: &[f32], len: usize, i: usize| -> Vec<f32> {
            x[(batch * len + i) * width + head * d..][..d].to_vec()
        };
        let keys: Vec<_> = (0..shape.kv_len).map(|j| row(k, shape.kv_len, j)).collect();
        let values: Vec<_> = (0..shape.kv_len).map(|j| row(v, shape.kv_len, j)).collect();
        for i in 0..shape.q_len {
            let query = row(q, shape.q_len, i);
            let mut score: Vec<f32> = keys
                .iter()
                .map(|key| scale * dot(0.0, query.iter().copied().zip(key.iter().copied())))
                .collect();
            if mask == Mask::Causal {
                score[i + 1..].fill(f32::NEG_INFINITY);
            }
            let largest = largest(&score);
            let e: Vec<f32> = score.iter().map(|s| math::exp(s - largest)).collect();
            let total = e.iter().fold(0.0, |total, e| total + e);
            let out = &mut out[(batch * shape.q_len + i) * width + head * d..][..d];
            for (c, out) in out.iter_mut().enumerate() {
                *out = dot(0.0, e.iter().zip(&values).map(|(&e, value)| (e, value[c]))) / total;
            }
        }
    }
}

/// The largest element, NaN passed over; -infinity where there is none.
#[must_use]
pub fn largest(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most })
}

/// The softmax of one row.
pub fn softmax(x: &[f32], out: &mut [f32]) {
    let most = largest(x);
    for (out, x) in out.iter_mut().zip(x) {
        *out = math::exp(x - most);
    }
    let total = sum(out);
    for out in out {
        *out /= total;
    }
}

/// Layer norm of one row.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let count = x.len() as f32;
    let mean = sum(x) / count;
    let inverse = 1.0 / (sum_of_squares(x, mean) / count + eps).sqrt();
    for (i, out) in out.iter_mut().enumerate() {
        *out = (x[i] - mean).mul_add(weight[i] * inverse, bias[i]);
    }
}

/// Group norm of one group: `x` `[channels of the group, spatial]`. Each channel is summed alone,
/// and then the channels' sums are.
pub fn group_norm(x: &[f32], spatial: usize, weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let count = x.len() as f32;
    let sums: Vec<f32> = x.chunks_exact(spatial).map(sum).collect();
    let mean = sum(&sums) / count;
    let squares: Vec<f32> = x.chunks_exact(spatial).map(|x| sum_of_squares(x, mean)).collect();
    let inverse = 1.0 / (sum(&squares) / count + eps).sqrt();
    for (i, out) in out.iter_mut().enumerate() {
        let channel = i / spatial;
        *out = (x[i] - mean).mul_add(weight[channel] * inverse, bias[channel]);
    }
}

/// `x / (1 + e^-x)`
#[must_use]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + math::exp(0.0 - x))
}

/// `x / 2 * (1 + erf(x / sqrt 2))`
#[must_use]
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + math::erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// `x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
#[must_use]
pub fn gelu_tanh(x: f32) -> f32 {
    let cubic = (0.044_715 * (x * x)).mul_add(x, x);
    0.5 * x * (1.0 + math::tanh(0.797_884_6 * cubic))
}

/// `x / (1 + e^(-1.702 x))`
#[must_use]
pub fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + math::exp(-1.702 * x))
}

/// 0 where `0 > x`, else `x`
#[must_use]
pub fn relu(x: f32) -> f32 {
    if 0.0 > x { 0.0 } else { x }
}

/// `tanh(x / limit) * limit`
#[must_use]
pub fn tanh_clamp(x: f32, limit: f32) -> f32 {
    math::tanh(x / limit) * limit
}

/// Where a row or column of a resized picture lies between two of its source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    /// The one at or before it.
    pub first: usize,
    /// The next one, or the last again.
    pub second: usize,
    /// How much of `second` is in it, from 0 to 1; the rest is of `first`.
    pub weight: f32,
}

/// The place of number `index` of `target` rows or columns among `source` ones. Centres are
/// aligned: it lies at `(index + 1/2) * source / target - 1/2`, not below 0, here counted in
/// integers of `1 / (2 target)`.
#[must_use]
pub fn between(index: usize, source: usize, target: usize) -> Between {
    let wide = |n: usize| n as u128;
    let unit = 2 * wide(target);
    let place = ((2 * wide(index) + 1) * wide(source)).saturating_sub(wide(target));
    let first = (place / unit) as usize;
    let weight = (place % unit) as f32 / unit as f32;
    Between { first, second: (first + 1).min(source - 1), weight }
}

/// Bilinear resizing of planes of `h` x `w` to `out_h` x `out_w`: along the row first, in the
/// upper row and the lower, and then between the two.
pub fn upsample_bilinear(x: &[f32], (h, w): (usize, usize), (out_h, out_w): (usize, usize), out: &mut [f32]) {
    let mix = |a: f32, b: f32, weight: f32| weight.mul_add(b, (1.0 - weight) * a);
    for (index, out) in out.iter_mut().enumerate() {
        let (plane, y, x_at) = (index / (out_h * out_w), index / out_w % out_h, index % out_w);
        let (row, column) = (between(y, h, out_h), between(x_at, w, out_w));
        let along = |y: usize| {
            let line = &x[(plane * h + y) * w..][..w];
            mix(line[column.first], line[column.second], column.weight)
        };
        *out = mix(along(row.first), along(row.second), row.weight);
    }
}
