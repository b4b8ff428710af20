//! Bringing pixels into panels, a block of taps at a time, in place of a column buffer.

use std::ops::Range;

use super::{ConvShape, Padding};
use crate::gemm::COLUMNS;

/// How the pixels of an output lie on an input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) shape: ConvShape,
    pub(super) stride: usize,
    pub(super) padding: Padding,
    /// Height and width of the input.
    pub(super) input: (usize, usize),
    /// Width of the output.
    pub(super) out_w: usize,
}

/// Pixels of a panel that lie in one row of the output.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Where in the panel.
    column: usize,
    len: usize,
    /// The input row and column of its first pixel under the kernel's first tap, plus the padding.
    y: usize,
    x: usize,
}

/// The runs of a panel of output pixels.
struct Runs {
    runs: [Run; COLUMNS],
    count: usize,
}

impl Geometry {
    fn runs(&self, pixels: Range<usize>) -> Runs {
        let mut runs = [Run::default(); COLUMNS];
        let (mut count, mut pixel) = (0, pixels.start);
        while pixel < pixels.end {
            let (row, column) = (pixel / self.out_w, pixel % self.out_w);
            let len = (self.out_w - column).min(pixels.end - pixel);
            let (y, x) = (row * self.stride, column * self.stride);
            runs[count] = Run { column: pixel - pixels.start, len, y, x };
            count += 1;
            pixel += len;
        }
        Runs { runs, count }
    }

    /// Fills `to` `[tap][COLUMNS]` with the values of `x` `[c, h, w]` that the taps `from..` meet
    /// at the output pixels `pixels`, at most [`COLUMNS`] of them; +0 outside the picture.
    pub(super) fn gather(&self, x: &[f32], pixels: Range<usize>, from: usize, to: &mut [f32]) {
        let (h, w) = self.input;
        let (kernel_h, kernel_w) = (self.shape.kernel_h, self.shape.kernel_w);
        let count = pixels.len();
        let runs = self.runs(pixels);
        let (mut channel, mut ky, mut kx) =
            (from / (kernel_h * kernel_w), from / kernel_w % kernel_h, from % kernel_w);
        let (taps, _) = to.as_chunks_mut::<COLUMNS>();
        for to in taps {
            to[count..].fill(0.0);
            for run in &runs.runs[..runs.count] {
                let to = &mut to[run.column..][..run.len];
                match (run.y + ky).checked_sub(self.padding.top).filter(|&y| y < h) {
                    None => to.fill(0.0),
                    Some(y) => self.gather_run(&x[(channel * h + y) * w..][..w], run.x + kx, to),
                }
            }
            kx += 1;
            if kx == kernel_w {
                (kx, ky) = (0, ky + 1);
            }
            if ky == kernel_h {
                (ky, channel) = (0, channel + 1);
            }
        }
    }

    /// One run under one tap: `x` counts from the left edge of the padding.
    #[inline]
    fn gather_run(&self, row: &[f32], x: usize, to: &mut [f32]) {
        let left = self.padding.left;
        let last = x + (to.len() - 1) * self.stride;
        if x >= left && last - left < row.len() {
            let row = &row[x - left..=last - left];
            match self.stride {
                1 => copy(row, to),
                2 => to.iter_mut().zip(row.iter().step_by(2)).for_each(|(to, &x)| *to = x),
                stride => to.iter_mut().zip(row.iter().step_by(stride)).for_each(|(to, &x)| *to = x),
            }
            return;
        }
        for (i, to) in to.iter_mut().enumerate() {
            let at = (x + i * self.stride).checked_sub(left);
            *to = at.and_then(|at| row.get(at)).copied().unwrap_or(0.0);
        }
    }
}

/// `copy_from_slice` with the usual lengths known to the compiler.
#[inline]
fn copy(from: &[f32], to: &mut [f32]) {
    fn exactly<const N: usize>(from: &[f32], to: &mut [f32]) -> bool {
        match (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
            (Some(from), Some(to)) if N == from.len() => {
                *to = *from;
                true
            }
            _ => false,
        }
    }
    match to.len() {
        32 => exactly::<32>(from, to),
        16 => exactly::<16>(from, to),
        8 => exactly::<8>(from, to),
        _ => {
            to.copy_from_slice(from);
            true
        }
    };
}
