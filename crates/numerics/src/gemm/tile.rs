//! One tile of results in registers.

use super::{COLUMNS, HALF, ROWS};
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

/// Where a right operand's values lie: the columns of a term are two runs of [`HALF`].
pub(crate) trait Right: Copy {
    /// Where the value of `term` in `column` lies; those up to the end of its half follow.
    ///
    /// # Safety
    /// The operand must have that term.
    unsafe fn at(self, term: usize, column: usize) -> *const f32;
}

/// A packed panel, `[term][COLUMNS]`.
#[derive(Clone, Copy)]
pub(crate) struct Panel(*const f32);

impl Panel {
    /// A panel of at least `depth` terms.
    #[inline(always)]
    pub(crate) fn new(values: &[f32], depth: usize) -> Self {
        assert!(values.len() >= depth * COLUMNS, "a panel of {depth} terms");
        Self(values.as_ptr())
    }
}

impl Right for Panel {
    #[inline(always)]
    unsafe fn at(self, term: usize, column: usize) -> *const f32 {
        self.0.wrapping_add(term * COLUMNS + column)
    }
}

/// A tile's place and operands.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a, R> {
    /// Rows that exist, at most [`ROWS`].
    pub(crate) rows: usize,
    /// Columns that exist of each half, at most [`HALF`].
    pub(crate) columns: [usize; 2],
    /// A left panel, `[term][ROWS]`, which says how many terms there are.
    pub(crate) left: &'a [f32],
    /// The right operand, of as many terms.
    pub(crate) right: R,
    /// The first result of each half.
    pub(crate) out: [*mut f32; 2],
    /// From a row of results to the next.
    pub(crate) row_stride: usize,
}

impl<'a, R> Tile<'a, R> {
    /// A tile whose `columns` results lie side by side from `out` on.
    #[inline(always)]
    pub(crate) fn joined(
        (rows, columns): (usize, usize),
        left: &'a [f32],
        right: R,
        out: *mut f32,
        row_stride: usize,
    ) -> Self {
        let columns = [columns.min(HALF), columns.saturating_sub(HALF)];
        Self { rows, columns, left, right, out: [out, out.wrapping_add(HALF)], row_stride }
    }
}

/// Extends the chains of a tile by the terms of its panels.
///
/// # Safety
/// `out` and `row_stride` must name `rows` x `columns` places that no other thread touches, and
/// `right` must be readable for all terms and columns.
#[inline(always)]
pub(crate) unsafe fn multiply_tile<S: Simd, R: Right>(s: S, tile: Tile<'_, R>, start: Start<'_>) {
    let Tile { rows, columns, left, .. } = tile;
    assert!(left.len().is_multiple_of(ROWS) && rows <= ROWS && columns[0] <= HALF && columns[1] <= HALF);
    let computed = computed_rows::<S>(rows);
    if computed == rows && columns == [HALF; 2] {
        // SAFETY: the caller's promise.
        unsafe { whole(s, computed, &tile, start) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { partial(s, computed, tile, start) };
    }
}

/// A tile that is not whole, computed beside its place.
///
/// # Safety
/// As [`multiply_tile`].
#[inline(always)]
unsafe fn partial<S: Simd, R: Right>(s: S, computed: usize, tile: Tile<'_, R>, start: Start<'_>) {
    let mut all = [0.0f32; ROWS * COLUMNS];
    for r in 0..tile.rows {
        for (half, &columns) in tile.columns.iter().enumerate() {
            let to = &mut all[r * COLUMNS + half * HALF..][..columns];
            match start {
                Start::Zero => {}
                Start::PerRow(values) => to.fill(values[r]),
                Start::PerColumn(values) => {
                    to.copy_from_slice(&values[(half * HALF).min(values.len())..][..columns])
                }
                // SAFETY: the caller's promise.
                Start::Stored => unsafe {
                    to.as_mut_ptr().copy_from(tile.out[half].wrapping_add(r * tile.row_stride), columns);
                },
            }
        }
    }
    let out = [all.as_mut_ptr(), all.as_mut_ptr().wrapping_add(HALF)];
    // SAFETY: `all` holds a whole tile; the rest is the caller's promise.
    unsafe { whole(s, computed, &Tile { out, row_stride: COLUMNS, ..tile }, Start::Stored) };
    for r in 0..tile.rows {
        for (half, &columns) in tile.columns.iter().enumerate() {
            let from = &all[r * COLUMNS + half * HALF..][..columns];
            // SAFETY: the caller's promise.
            unsafe { tile.out[half].wrapping_add(r * tile.row_stride).copy_from(from.as_ptr(), columns) };
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

/// Computes `rows` (as [`computed_rows`] gives them) x [`COLUMNS`] results.
///
/// # Safety
/// As [`multiply_tile`], for that many rows and all columns.
#[inline(always)]
unsafe fn whole<S: Simd, R: Right>(s: S, rows: usize, tile: &Tile<'_, R>, start: Start<'_>) {
    for column in (0..COLUMNS).step_by(2 * S::LANES) {
        let step = Step { tile, column, start };
        // SAFETY: the steps stay within `rows` x `COLUMNS`.
        unsafe {
            if S::TILE_ROWS < 8 {
                match rows {
                    4 => registers::<S, R, 4>(s, 0, step),
                    6 => registers::<S, R, 6>(s, 0, step),
                    8 => {
                        registers::<S, R, 4>(s, 0, step);
                        registers::<S, R, 4>(s, 4, step);
                    }
                    _ => {
                        registers::<S, R, 6>(s, 0, step);
                        registers::<S, R, 6>(s, 6, step);
                    }
                }
            } else {
                match rows {
                    4 => registers::<S, R, 4>(s, 0, step),
                    8 => registers::<S, R, 8>(s, 0, step),
                    _ => registers::<S, R, 12>(s, 0, step),
                }
            }
        }
    }
}

/// Two vectors of columns of a tile, from `column` on.
struct Step<'a, R> {
    tile: &'a Tile<'a, R>,
    column: usize,
    start: Start<'a>,
}

impl<R> Clone for Step<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Step<'_, R> {}

impl<R> Step<'_, R> {
    /// Where the result of `row` in `column` lies.
    #[inline(always)]
    fn out(&self, row: usize, column: usize) -> *mut f32 {
        self.tile.out[column / HALF].wrapping_add(row * self.tile.row_stride + column % HALF)
    }
}

/// `N` rows of two vectors from `row` on, kept in registers over all terms.
///
/// # Safety
/// As [`multiply_tile`], for these rows and columns.
#[inline(always)]
unsafe fn registers<S: Simd, R: Right, const N: usize>(s: S, row: usize, step: Step<'_, R>) {
    let columns = [step.column, step.column + S::LANES];
    let (left, right) = (step.tile.left, step.tile.right);
    let mut sums = [[s.splat(0.0); 2]; N];
    match step.start {
        Start::Zero => {}
        Start::Stored => {
            for (r, [first, second]) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                unsafe {
                    *first = s.load(step.out(row + r, columns[0]));
                    *second = s.load(step.out(row + r, columns[1]));
                }
            }
        }
        Start::PerRow(values) => {
            for (sums, &value) in sums.iter_mut().zip(&values[row..][..N]) {
                *sums = [s.splat(value); 2];
            }
        }
        Start::PerColumn(values) => {
            let values = &values[columns[0]..][..2 * S::LANES];
            // SAFETY: the slice is as long as both vectors.
            sums = [unsafe { [s.load(values.as_ptr()), s.load(values.as_ptr().add(S::LANES))] }; N];
        }
    }
    for term in 0..left.len() / ROWS {
        // SAFETY: the caller's promise; a term of the left panel has `ROWS` values.
        unsafe {
            let (b0, b1) = (s.load(right.at(term, columns[0])), s.load(right.at(term, columns[1])));
            let left = left.as_ptr().add(term * ROWS + row);
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
            s.store(step.out(row + r, columns[0]), first);
            s.store(step.out(row + r, columns[1]), second);
        }
    }
}
