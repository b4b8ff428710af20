//! Rows times a packed right operand: linear layers and batched products.

use std::ops::Range;

use super::{
    COLUMNS, DEPTH, Out, Panel, ROWS, RightPanels, Start, Tile, View, blocks, multiply_tile, pack_left,
    with_scratch,
};
use crate::isa::{Isa, Kernel};
use crate::parallel;
use crate::simd::Simd;

/// Rows of a job: packed for one block of terms they take 192 KiB.
const JOB_ROWS: usize = 16 * ROWS;

/// `out` `[rows, columns]` = `left` times `right`, each chain begun at its column's `bias`.
/// `out` must be that long.
pub(crate) fn multiply_rows(
    left: View<'_>,
    rows: usize,
    right: &RightPanels,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    assert!(out.len() == rows * right.columns, "the output matches the product");
    let isa = Isa::active();
    let out = Out::new(out);
    let row_jobs = rows.div_ceil(JOB_ROWS);
    let work = 2 * rows * right.columns * right.depth;
    let panels_each = right.panels().div_ceil(parallel::jobs_for(work).div_ceil(row_jobs));
    let column_jobs = right.panels().div_ceil(panels_each);
    parallel::for_each(row_jobs * column_jobs, work, |job| {
        let first_row = job / column_jobs * JOB_ROWS;
        let first_panel = job % column_jobs * panels_each;
        with_scratch([JOB_ROWS * DEPTH], |[scratch]| {
            isa.run(Job {
                left,
                right,
                bias,
                out,
                rows: first_row..rows.min(first_row + JOB_ROWS),
                panels: first_panel..right.panels().min(first_panel + panels_each),
                scratch,
            });
        });
    });
}

struct Job<'a> {
    left: View<'a>,
    right: &'a RightPanels,
    bias: Option<&'a [f32]>,
    out: Out<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
    /// Room for [`JOB_ROWS`] rows of a block.
    scratch: &'a mut [f32],
}

impl Kernel for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let count = self.rows.len();
        for block in blocks(self.right.depth, DEPTH) {
            let packed = count.div_ceil(ROWS) * ROWS * block.1;
            let left = &mut self.scratch[..packed];
            pack_left(self.left, (self.rows.start, count), block, left);
            for panel in self.panels.clone() {
                self.column_panel(s, panel, block, packed);
            }
        }
    }
}

impl Job<'_> {
    #[inline(always)]
    fn column_panel<S: Simd>(&self, s: S, panel: usize, block: (usize, usize), packed: usize) {
        let first_column = panel * COLUMNS;
        let start = match self.bias {
            _ if block.0 > 0 => Start::Stored,
            None => Start::Zero,
            Some(bias) => Start::PerColumn(&bias[first_column..]),
        };
        for (i, left) in self.scratch[..packed].chunks_exact(ROWS * block.1).enumerate() {
            let row = self.rows.start + i * ROWS;
            let rows = ROWS.min(self.rows.end - row);
            let columns = COLUMNS.min(self.right.columns - first_column);
            let right = Panel::new(self.right.panel(panel, block), block.1);
            let out = self.out.at(row * self.right.columns + first_column);
            let tile = Tile::joined((rows, columns), left, right, out, self.right.columns);
            // SAFETY: the tile lies within the output and within this job's rows and panels.
            unsafe { multiply_tile(s, tile, start) };
        }
    }
}
