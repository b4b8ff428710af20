//! One tile of results in registers.

use super::{COLUMNS, ROWS};
use crate::simd::Simd;

/// What the chains of a tile begin with.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// What the output holds: the chain of the terms before.
    Stored,
    /// +0
    Zero,
    /// A number for each row of the tile.
    PerRow(&'a [f32]),
    /// A number for each column of the tile.
    PerColumn(&'a [f32]),
}

/// A tile's place and operands.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Rows that exist, at most [`ROWS`].
    pub(crate) rows: usize,
    /// Columns that exist, at most [`COLUMNS`].
    pub(crate) columns: usize,
    /// A left panel, `[term][ROWS]`.
    pub(crate) left: &'a [f32],
    /// A right panel of as many terms, `[term][COLUMNS]`.
    pub(crate) right: &'a [f32],
    /// The first result.
    pub(crate) out: *mut f32,
    /// From a row of results to the next.
    pub(crate) row_stride: usize,
}

/// Extends the chains of a tile by the terms of its panels.
///
/// # Safety
/// `out` and `row_stride` must name `rows` x `columns` places that no other thread touches.
#[inline(always)]
pub(crate) unsafe fn multiply_tile<S: Simd>(s: S, tile: Tile<'_>, start: Start<'_>) {
    let depth = tile.right.len() / COLUMNS;
    assert!(tile.left.len() == depth * ROWS && tile.rows <= ROWS && tile.columns <= COLUMNS);
    let Tile { rows, columns, out, row_stride, .. } = tile;
    let computed = computed_rows::<S>(rows);
    let fresh = matches!(start, Start::Zero);
    if computed == rows && columns == COLUMNS {
        // SAFETY: the caller's promise; the panels' lengths are asserted.
        unsafe {
            if !fresh {
                begin(start, (rows, columns), out, row_stride);
            }
            whole(s, computed, fresh, depth, &tile, out, row_stride);
        }
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { begin(start, (rows, columns), out, row_stride) };
    let mut all = [0.0f32; ROWS * COLUMNS];
    for r in 0..rows {
        // SAFETY: the caller's promise; `all` holds a whole tile.
        unsafe { all.as_mut_ptr().add(r * COLUMNS).copy_from(out.add(r * row_stride), columns) };
    }
    // SAFETY: `all` holds a whole tile; the panels' lengths are asserted.
    unsafe { whole(s, computed, false, depth, &tile, all.as_mut_ptr(), COLUMNS) };
    for r in 0..rows {
        // SAFETY: the caller's promise; `all` holds a whole tile.
        unsafe { out.add(r * row_stride).copy_from(all.as_ptr().add(r * COLUMNS), columns) };
    }
}

/// Writes what the chains begin with.
///
/// # Safety
/// As [`multiply_tile`].
#[inline(always)]
unsafe fn begin(start: Start<'_>, (rows, columns): (usize, usize), out: *mut f32, stride: usize) {
    for r in 0..rows {
        if matches!(start, Start::Stored) {
            return;
        }
        // SAFETY: the caller's promise.
        let row = unsafe { std::slice::from_raw_parts_mut(out.add(r * stride), columns) };
        match start {
            Start::Stored => {}
            Start::Zero => row.fill(0.0),
            Start::PerRow(values) => row.fill(values[r]),
            Start::PerColumn(values) => row.copy_from_slice(&values[..columns]),
        }
    }
}

/// `rows` rounded up to what the kernels compute at once.
#[inline(always)]
fn computed_rows<S: Simd>(rows: usize) -> usize {
    if rows <= 4 {
        4
    } else if rows <= S::TILE_ROWS && S::TILE_ROWS < 8 {
        S::TILE_ROWS
    } else if rows <= 8 {
        8
    } else {
        ROWS
    }
}

/// Computes `rows` (as [`computed_rows`] gives them) x [`COLUMNS`] results, started from +0 where
/// `fresh` and else from what `out` holds.
///
/// # Safety
/// That many places at `out` are ours, and the panels have `depth` terms.
#[inline(always)]
unsafe fn whole<S: Simd>(
    s: S,
    rows: usize,
    fresh: bool,
    depth: usize,
    tile: &Tile<'_>,
    out: *mut f32,
    stride: usize,
) {
    for column in (0..COLUMNS).step_by(2 * S::LANES) {
        let step = |row: usize| {
            let left = tile.left.as_ptr().wrapping_add(row);
            let right = tile.right.as_ptr().wrapping_add(column);
            let out = out.wrapping_add(row * stride + column);
            Step { depth, left, right, out, stride, fresh }
        };
        // SAFETY: the steps stay within `rows` x `COLUMNS`.
        unsafe {
            if S::TILE_ROWS < 8 {
                match rows {
                    4 => registers::<S, 4>(s, step(0)),
                    6 => registers::<S, 6>(s, step(0)),
                    8 => {
                        registers::<S, 4>(s, step(0));
                        registers::<S, 4>(s, step(4));
                    }
                    _ => {
                        registers::<S, 6>(s, step(0));
                        registers::<S, 6>(s, step(6));
                    }
                }
            } else {
                match rows {
                    4 => registers::<S, 4>(s, step(0)),
                    8 => registers::<S, 8>(s, step(0)),
                    _ => registers::<S, 12>(s, step(0)),
                }
            }
        }
    }
}

/// What [`registers`] works on.
struct Step {
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: *mut f32,
    stride: usize,
    fresh: bool,
}

/// `N` rows of two vectors, kept in registers over `depth` terms.
///
/// # Safety
/// `left` has `depth` terms of [`ROWS`], `right` of [`COLUMNS`], `out` `N` rows of two vectors.
#[inline(always)]
unsafe fn registers<S: Simd, const N: usize>(s: S, Step { depth, left, right, out, stride, fresh }: Step) {
    let mut sums = [[s.splat(0.0); 2]; N];
    if !fresh {
        for (r, [first, second]) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                *first = s.load(out.add(r * stride));
                *second = s.load(out.add(r * stride + S::LANES));
            }
        }
    }
    for term in 0..depth {
        // SAFETY: the caller's promise.
        unsafe {
            let right = right.add(term * COLUMNS);
            let (b0, b1) = (s.load(right), s.load(right.add(S::LANES)));
            let left = left.add(term * ROWS);
            for (r, [first, second]) in sums.iter_mut().enumerate() {
                let a = s.splat(left.add(r).read());
                *first = s.fma(a, b0, *first);
                *second = s.fma(a, b1, *second);
            }
        }
    }
    for (r, [first, second]) in sums.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            s.store(out.add(r * stride), first);
            s.store(out.add(r * stride + S::LANES), second);
        }
    }
}
