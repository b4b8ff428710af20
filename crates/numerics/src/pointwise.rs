//! Operations on each element alone, and resizing. All write to `out`.

use crate::check;
use crate::elementwise::{
    Add, CHUNK, Gelu, GeluTanh, Map, MapInPlace, MapSlice, Multiply, Plus, QuickGelu, Relu, Scaled, Sigmoid,
    Silu, TanhClamp, TimesGelu, Zip, ZipSlice, bilinear, map, zip, zip_in_place,
};
use crate::error::Result;
use crate::gemm::Out;
use crate::isa::Isa;
use crate::parallel::{self, PASS, for_each_chunk};

fn checked_map(f: impl Map, x: &[f32], out: &mut [f32]) -> Result<()> {
    check::same_length("the output", out, x.len())?;
    map(f, x, out);
    Ok(())
}

fn checked_zip(f: impl Zip, a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    check::same_length("the second operand", b, a.len())?;
    check::same_length("the output", out, a.len())?;
    zip(f, a, b, out);
    Ok(())
}

/// `x / (1 + e^-x)`
///
/// # Errors
/// Where the lengths differ.
pub fn silu(x: &[f32], out: &mut [f32]) -> Result<()> {
    checked_map(Silu, x, out)
}

/// `1 / (1 + e^-x)`
///
/// # Errors
/// Where the lengths differ.
pub fn sigmoid(x: &[f32], out: &mut [f32]) -> Result<()> {
    checked_map(Sigmoid, x, out)
}

/// GELU by the error function.
///
/// # Errors
/// Where the lengths differ.
pub fn gelu(x: &[f32], out: &mut [f32]) -> Result<()> {
    checked_map(Gelu, x, out)
}

/// GELU approximated by the hyperbolic tangent.
///
/// # Errors
/// Where the lengths differ.
pub fn gelu_tanh(x: &[f32], out: &mut [f32]) -> Result<()> {
    checked_map(GeluTanh, x, out)
}

/// `x / (1 + e^(-1.702 x))`, the GELU of CLIP.
///
/// # Errors
/// Where the lengths differ.
pub fn quick_gelu(x: &[f32], out: &mut [f32]) -> Result<()> {
    checked_map(QuickGelu, x, out)
}

/// 0 where `0 > x`, else `x`; a NaN passes.
///
/// # Errors
/// Where the lengths differ.
pub fn relu(x: &[f32], out: &mut [f32]) -> Result<()> {
    checked_map(Relu, x, out)
}

/// `tanh(x / limit) * limit`: x, bent towards `-limit` and `limit`.
///
/// # Errors
/// Where the lengths differ.
pub fn tanh_clamp(x: &[f32], limit: f32, out: &mut [f32]) -> Result<()> {
    checked_map(TanhClamp(limit), x, out)
}

/// `out` `[rows, width]` = first half of each row of `x` `[rows, 2 * width]` times the GELU (by the
/// error function) of the second half.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn geglu(x: &[f32], rows: usize, width: usize, out: &mut [f32]) -> Result<()> {
    check::length("the output", out, &[rows, width])?;
    check::length("the input", x, &[rows, 2, width])?;
    let isa = Isa::active();
    let rows_each = CHUNK.div_ceil(width);
    for_each_chunk((out, rows_each * width), (x, rows_each * 2 * width), |_, out, x| {
        for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (a, b) = x.split_at(width);
            isa.run(ZipSlice { f: TimesGelu, a, b, out });
        }
    });
    Ok(())
}

/// `a + b`
///
/// # Errors
/// Where the lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    checked_zip(Add, a, b, out)
}

/// `a * b`
///
/// # Errors
/// Where the lengths differ.
pub fn mul(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    checked_zip(Multiply, a, b, out)
}

/// `x * factor`
///
/// # Errors
/// Where the lengths differ.
pub fn scale(x: &[f32], factor: f32, out: &mut [f32]) -> Result<()> {
    checked_map(Scaled(factor), x, out)
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
    let isa = Isa::active();
    let planes_each = CHUNK.div_ceil(spatial);
    let size = planes_each * spatial;
    for_each_chunk((out, size), (x, size), |i, out, x| {
        let planes = x.chunks_exact(spatial).zip(out.chunks_exact_mut(spatial));
        for ((x, out), &term) in planes.zip(&bias[i * planes_each..]) {
            isa.run(MapSlice { f: Plus(term), x, out });
        }
    });
    Ok(())
}

/// `sum[i] = sum[i] + term[i]`
///
/// # Errors
/// Where the lengths differ.
pub fn add_assign(sum: &mut [f32], term: &[f32]) -> Result<()> {
    check::same_length("the term", term, sum.len())?;
    zip_in_place(Add, sum, term);
    Ok(())
}

/// [`add_channels`] in place: `x` `[planes, spatial]`, `bias` `[planes]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn add_channels_assign(x: &mut [f32], bias: &[f32], planes: usize, spatial: usize) -> Result<()> {
    check::length("the input", x, &[planes, spatial])?;
    check::length("the bias", bias, &[planes])?;
    let isa = Isa::active();
    let planes_each = CHUNK.div_ceil(spatial);
    for_each_chunk((x, planes_each * spatial), (bias, planes_each), |_, x, bias| {
        for (x, &term) in x.chunks_exact_mut(spatial).zip(bias) {
            isa.run(MapInPlace { f: Plus(term), x });
        }
    });
    Ok(())
}

/// The side of the squares in which matrices are transposed.
const SQUARE: usize = 32;

/// `out` `[batch, columns, rows]` = `x` `[batch, rows, columns]` with rows and columns exchanged.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn transpose(x: &[f32], batch: usize, rows: usize, columns: usize, out: &mut [f32]) -> Result<()> {
    check::length("the input", x, &[batch, rows, columns])?;
    check::length("the output", out, &[batch, columns, rows])?;
    let matrix = rows * columns;
    let strips = columns.div_ceil(SQUARE);
    let out = Out::new(out);
    parallel::for_each(batch * strips, PASS * x.len(), |job| {
        let (start, first) = (job / strips * matrix, job % strips * SQUARE);
        let here = SQUARE.min(columns - first);
        // SAFETY: a job writes some columns' rows of one matrix, which no other does.
        let strip = unsafe { out.slice(start + first * rows, here * rows) };
        for top in (0..rows).step_by(SQUARE) {
            let square = &x[start + top * columns + first..];
            for (column, strip) in strip.chunks_exact_mut(rows).enumerate() {
                for (row, to) in strip[top..rows.min(top + SQUARE)].iter_mut().enumerate() {
                    *to = square[row * columns + column];
                }
            }
        }
    });
    Ok(())
}

/// Each pixel of `x` `[planes, h, w]` four times: `out` is `[planes, 2 h, 2 w]`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn upsample_nearest_2x(x: &[f32], planes: usize, h: usize, w: usize, out: &mut [f32]) -> Result<()> {
    check::length("the input", x, &[planes, h, w])?;
    check::length("the output", out, &[planes, h, 2, w, 2])?;
    for_each_chunk((out, 4 * h * w), (x, h * w), |_, out, x| {
        for (x, out) in x.chunks_exact(w).zip(out.chunks_exact_mut(4 * w)) {
            let (first, second) = out.split_at_mut(2 * w);
            for (pair, &x) in first.chunks_exact_mut(2).zip(x) {
                pair.fill(x);
            }
            second.copy_from_slice(first);
        }
    });
    Ok(())
}

/// `x` `[planes, h, w]` resized to `out` `[planes, out_h, out_w]`, larger or smaller, by mixing the
/// four nearest pixels: PyTorch's `interpolate` in the mode `bilinear` with `align_corners=False`.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn upsample_bilinear(
    x: &[f32],
    planes: usize,
    (h, w): (usize, usize),
    (out_h, out_w): (usize, usize),
    out: &mut [f32],
) -> Result<()> {
    check::length("the input", x, &[planes, h, w])?;
    check::length("the output", out, &[planes, out_h, out_w])?;
    bilinear(x, (h, w), (out_h, out_w), out);
    Ok(())
}
