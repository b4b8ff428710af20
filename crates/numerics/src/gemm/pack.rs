//! Bringing operands into panels.

use super::{Buffer, COLUMNS, DEPTH, ROWS};

/// A matrix inside a slice, by strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> View<'a> {
    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// Packs `rows` rows of `left` from `first` on, terms `from..from + depth`, into panels of
/// [`ROWS`] rows with zeros for those missing in the last.
pub(crate) fn pack_left(
    left: View<'_>,
    (first, rows): (usize, usize),
    (from, depth): (usize, usize),
    to: &mut [f32],
) {
    for (panel, to) in to.chunks_exact_mut(depth * ROWS).enumerate() {
        let here = (rows - panel * ROWS).min(ROWS);
        pack_panel::<ROWS>(left, (first + panel * ROWS, here), from, to);
    }
}

/// Packs columns as [`pack_left`] packs rows, into panels of [`COLUMNS`].
pub(crate) fn pack_right(
    right: View<'_>,
    (first, columns): (usize, usize),
    (from, depth): (usize, usize),
    to: &mut [f32],
) {
    for (panel, to) in to.chunks_exact_mut(depth * COLUMNS).enumerate() {
        let here = (columns - panel * COLUMNS).min(COLUMNS);
        pack_panel::<COLUMNS>(right.transposed(), (first + panel * COLUMNS, here), from, to);
    }
}

/// One panel: `to[term][lane]` = row `first + lane` of `view`, column `from + term`.
fn pack_panel<const LANES: usize>(
    view: View<'_>,
    (first, lanes): (usize, usize),
    from: usize,
    to: &mut [f32],
) {
    let place =
        |lane: usize, term: usize| (first + lane) * view.row_stride + (from + term) * view.column_stride;
    let (terms, _) = to.as_chunks_mut::<LANES>();
    if lanes < LANES {
        for (term, to) in terms.iter_mut().enumerate() {
            *to = std::array::from_fn(|l| if l < lanes { view.data[place(l, term)] } else { 0.0 });
        }
    } else if view.row_stride == 1 {
        for (term, to) in terms.iter_mut().enumerate() {
            to.copy_from_slice(&view.data[place(0, term)..][..LANES]);
        }
    } else if view.column_stride == 1 {
        let rows: [&[f32]; LANES] = std::array::from_fn(|l| &view.data[place(l, 0)..][..terms.len()]);
        for (term, to) in terms.iter_mut().enumerate() {
            *to = std::array::from_fn(|l| rows[l][term]);
        }
    } else {
        for (term, to) in terms.iter_mut().enumerate() {
            *to = std::array::from_fn(|l| view.data[place(l, term)]);
        }
    }
}

/// Blocks of terms: the first term and the number of terms of each.
pub(crate) fn blocks(terms: usize, block: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..terms).step_by(block).map(move |from| (from, block.min(terms - from)))
}

/// A right operand packed whole, `[block][panel][term][column]`, so that it is read in order.
#[derive(Debug, Clone)]
pub(crate) struct RightPanels {
    buffer: Buffer,
    /// Columns that exist.
    pub(crate) columns: usize,
    /// Terms of every column.
    pub(crate) depth: usize,
}

impl RightPanels {
    /// Packs a `depth` x `columns` matrix.
    pub(crate) fn pack(right: View<'_>, depth: usize, columns: usize) -> Self {
        let padded = columns.next_multiple_of(COLUMNS);
        let mut buffer = Buffer::zeroed(padded * depth);
        for (from, terms) in blocks(depth, DEPTH) {
            let to = &mut buffer.as_mut_slice()[from * padded..][..terms * padded];
            pack_right(right, (0, columns), (from, terms), to);
        }
        Self { buffer, columns, depth }
    }

    /// Panels of [`COLUMNS`] columns.
    pub(crate) fn panels(&self) -> usize {
        self.columns.div_ceil(COLUMNS)
    }

    /// One of the [`blocks`] of a panel.
    pub(crate) fn panel(&self, panel: usize, (from, terms): (usize, usize)) -> &[f32] {
        let start = (from * self.panels() + panel * terms) * COLUMNS;
        &self.buffer.as_slice()[start..][..terms * COLUMNS]
    }
}

/// A left operand packed whole, `[block][panel][term][row]`, so that it is read in order.
#[derive(Debug, Clone)]
pub(crate) struct LeftPanels {
    buffer: Buffer,
    /// Rows that exist.
    pub(crate) rows: usize,
    /// Terms of every row.
    pub(crate) depth: usize,
    /// Terms of a block.
    pub(crate) block: usize,
}

impl LeftPanels {
    /// Packs a `rows` x `depth` matrix in blocks of `block` terms.
    pub(crate) fn pack(left: View<'_>, rows: usize, depth: usize, block: usize) -> Self {
        let padded = rows.next_multiple_of(ROWS);
        let mut buffer = Buffer::zeroed(padded * depth);
        for (from, terms) in blocks(depth, block) {
            let to = &mut buffer.as_mut_slice()[from * padded..][..terms * padded];
            pack_left(left, (0, rows), (from, terms), to);
        }
        Self { buffer, rows, depth, block }
    }

    /// Panels of [`ROWS`] rows.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// The blocks of terms: the first term and the number of terms of each.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        blocks(self.depth, self.block)
    }

    /// One of the [`blocks`] of a panel.
    pub(crate) fn panel(&self, panel: usize, (from, terms): (usize, usize)) -> &[f32] {
        let start = (from * self.panels() + panel * terms) * ROWS;
        &self.buffer.as_slice()[start..][..terms * ROWS]
    }
}
