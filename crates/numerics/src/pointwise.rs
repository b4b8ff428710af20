//! Operations on each element alone. All write to `out`, which is as long as the input.

use crate::check;
use crate::error::Result;
use crate::reference;

fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) -> Result<()> {
    check::same_length("the output", out, x.len())?;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f(x);
    }
    Ok(())
}

fn zip(a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) -> Result<()> {
    check::same_length("the second operand", b, a.len())?;
    check::same_length("the output", out, a.len())?;
    for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = f(a, b);
    }
    Ok(())
}

/// `x / (1 + e^-x)`
///
/// # Errors
/// Where the lengths differ.
pub fn silu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map(x, out, reference::silu)
}

/// `1 / (1 + e^-x)`
///
/// # Errors
/// Where the lengths differ.
pub fn sigmoid(x: &[f32], out: &mut [f32]) -> Result<()> {
    map(x, out, crate::math::sigmoid)
}

/// GELU by the error function.
///
/// # Errors
/// Where the lengths differ.
pub fn gelu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map(x, out, reference::gelu)
}

/// GELU approximated by the hyperbolic tangent.
///
/// # Errors
/// Where the lengths differ.
pub fn gelu_tanh(x: &[f32], out: &mut [f32]) -> Result<()> {
    map(x, out, reference::gelu_tanh)
}

/// `x / (1 + e^(-1.702 x))`, the GELU of CLIP.
///
/// # Errors
/// Where the lengths differ.
pub fn quick_gelu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map(x, out, reference::quick_gelu)
}

/// `out` `[rows, width]` = first half of each row of `x` `[rows, 2 * width]` times the GELU (by the
/// error function) of the second half.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn geglu(x: &[f32], rows: usize, width: usize, out: &mut [f32]) -> Result<()> {
    check::length("the output", out, &[rows, width])?;
    check::length("the input", x, &[rows, 2, width])?;
    for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (value, gate) = x.split_at(width);
        for (out, (value, &gate)) in out.iter_mut().zip(value.iter().zip(gate)) {
            *out = value * reference::gelu(gate);
        }
    }
    Ok(())
}

/// `a + b`
///
/// # Errors
/// Where the lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    zip(a, b, out, |a, b| a + b)
}

/// `a * b`
///
/// # Errors
/// Where the lengths differ.
pub fn mul(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    zip(a, b, out, |a, b| a * b)
}

/// `x * factor`
///
/// # Errors
/// Where the lengths differ.
pub fn scale(x: &[f32], factor: f32, out: &mut [f32]) -> Result<()> {
    map(x, out, |x| x * factor)
}

/// `x` `[planes, spatial]` plus `bias` `[planes]`, one number for each plane. With
/// `planes = n * c` this adds a `[n, c]` embedding to `[n, c, h, w]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn add_channels(x: &[f32], bias: &[f32], planes: usize, spatial: usize, out: &mut [f32]) -> Result<()> {
    check::length("the input", x, &[planes, spatial])?;
    check::length("the output", out, &[planes, spatial])?;
    check::length("the bias", bias, &[planes])?;
    for (i, out) in out.iter_mut().enumerate() {
        *out = x[i] + bias[i / spatial];
    }
    Ok(())
}

/// Each pixel of `x` `[planes, h, w]` four times: `out` is `[planes, 2 h, 2 w]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn upsample_nearest_2x(x: &[f32], planes: usize, h: usize, w: usize, out: &mut [f32]) -> Result<()> {
    check::length("the input", x, &[planes, h, w])?;
    check::length("the output", out, &[planes, h, 2, w, 2])?;
    for (x, out) in x.chunks_exact(w).zip(out.chunks_exact_mut(4 * w)) {
        let (first, second) = out.split_at_mut(2 * w);
        for (pair, &x) in first.chunks_exact_mut(2).zip(x) {
            pair.fill(x);
        }
        second.copy_from_slice(first);
    }
    Ok(())
}
