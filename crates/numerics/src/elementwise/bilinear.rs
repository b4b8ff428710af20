//! Bilinear upsampling: columns are mixed once for each row of the input, rows in vectors.

use rayon::prelude::*;

use super::{CHUNK, Zip, zip_slice};
use crate::isa::{Isa, Kernel};
use crate::reference::{Between, between};
use crate::simd::{Scalar, Simd};

/// `out` `[planes, out_h, out_w]` from `x` `[planes, h, w]` over the current threads. Both must be
/// that long, and no dimension zero.
pub(crate) fn bilinear(x: &[f32], (h, w): (usize, usize), (out_h, out_w): (usize, usize), out: &mut [f32]) {
    let isa = Isa::active();
    let places = |target, source| (0..target).map(|i| between(i, source, target)).collect::<Vec<_>>();
    let (rows, columns) = (places(out_h, h), places(out_w, w));
    let rows_each = CHUNK.div_ceil(out_w);
    out.par_chunks_mut(out_h * out_w).zip(x.par_chunks(h * w)).for_each(|(out, x)| {
        out.par_chunks_mut(rows_each * out_w).zip(rows.par_chunks(rows_each)).for_each(|(out, rows)| {
            isa.run(Rows { x, w, rows, columns: &columns, out });
        });
    });
}

/// Some rows of the result of one plane.
struct Rows<'a> {
    x: &'a [f32],
    w: usize,
    rows: &'a [Between],
    columns: &'a [Between],
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.columns.len();
        let mut upper = Line::of(width);
        let mut lower = Line::of(width);
        for (row, out) in self.rows.iter().zip(self.out.chunks_exact_mut(width)) {
            if lower.row == Some(row.first) {
                std::mem::swap(&mut upper, &mut lower);
            }
            upper.hold(row.first, self.x, self.w, self.columns);
            lower.hold(row.second, self.x, self.w, self.columns);
            zip_slice(s, Mix(row.weight), &upper.mixed, &lower.mixed, out);
        }
    }
}

/// A row of the input, its columns mixed.
struct Line {
    row: Option<usize>,
    mixed: Vec<f32>,
}

impl Line {
    fn of(width: usize) -> Self {
        Self { row: None, mixed: vec![0.0; width] }
    }

    #[inline(always)]
    fn hold(&mut self, row: usize, x: &[f32], w: usize, columns: &[Between]) {
        if self.row != Some(row) {
            self.row = Some(row);
            let x = &x[row * w..][..w];
            for (to, at) in self.mixed.iter_mut().zip(columns) {
                *to = Mix(at.weight).apply(Scalar, x[at.first], x[at.second]);
            }
        }
    }
}

/// `(1 - weight) * a + weight * b`, the second product and the sum fused.
#[derive(Clone, Copy)]
struct Mix(f32);

impl Zip for Mix {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.fma(s.splat(self.0), b, s.mul(s.splat(1.0 - self.0), a))
    }
}
