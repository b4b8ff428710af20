//! Sums of a row in the order that `reference::sum` defines, and its largest element.

use crate::reference::PARTIAL_SUMS;
use crate::simd::{Scalar, Simd};

/// How a partial sum takes in an element.
pub(crate) trait Step: Copy {
    /// The new partial sum; must be `#[inline(always)]`.
    fn step<S: Simd>(self, s: S, partial: S::V, x: S::V) -> S::V;
}

/// `partial + x`
#[derive(Clone, Copy)]
pub(crate) struct Sum;

impl Step for Sum {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, partial: S::V, x: S::V) -> S::V {
        s.add(partial, x)
    }
}

/// `partial + (x - mean)^2`, fused.
#[derive(Clone, Copy)]
pub(crate) struct Squares {
    pub(crate) mean: f32,
}

impl Step for Squares {
    #[inline(always)]
    fn step<S: Simd>(self, s: S, partial: S::V, x: S::V) -> S::V {
        let x = s.sub(x, s.splat(self.mean));
        s.fma(x, x, partial)
    }
}

/// The most vectors that the partial sums take.
const VECTORS: usize = 8;

/// The sum of a row.
#[inline(always)]
pub(crate) fn reduce<S: Simd>(s: S, step: impl Step, x: &[f32]) -> f32 {
    let mut partial = [0.0f32; PARTIAL_SUMS];
    let (rows, rest) = x.as_chunks::<PARTIAL_SUMS>();
    let mut vectors = [s.splat(0.0); VECTORS];
    for row in rows {
        for (i, vector) in vectors.iter_mut().enumerate().take(PARTIAL_SUMS / S::LANES) {
            // SAFETY: the vectors taken are those of a row.
            *vector = step.step(s, *vector, unsafe { s.load(row.as_ptr().add(i * S::LANES)) });
        }
    }
    for (i, &vector) in vectors.iter().enumerate().take(PARTIAL_SUMS / S::LANES) {
        // SAFETY: the vectors taken are those of a row.
        unsafe { s.store(partial.as_mut_ptr().add(i * S::LANES), vector) };
    }
    for (partial, &x) in partial.iter_mut().zip(rest) {
        *partial = step.step(Scalar, *partial, x);
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

/// The largest element, NaN passed over. Which of +0 and -0 is unspecified.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut most = s.splat(f32::NEG_INFINITY);
    let whole = x.len() - x.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `whole` is at most the length.
        let x = unsafe { s.load(x.as_ptr().add(i)) };
        most = s.if_gt(x, most, x, most);
    }
    let mut lanes = [f32::NEG_INFINITY; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { s.store(lanes.as_mut_ptr(), most) };
    let rest = &x[whole..];
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most })
}
