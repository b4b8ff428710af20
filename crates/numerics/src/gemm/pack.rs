//! Bringing operands into panels.

use super::{Buffer, COLUMNS, ROWS};

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

/// A right operand packed whole.
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
        let len = columns.div_ceil(COLUMNS) * COLUMNS * depth;
        let mut buffer = Buffer::zeroed(len);
        pack_right(right, (0, columns), (0, depth), &mut buffer.as_mut_slice()[..len]);
        Self { buffer, columns, depth }
    }

    /// Panels of [`COLUMNS`] columns.
    pub(crate) fn panels(&self) -> usize {
        self.columns.div_ceil(COLUMNS)
    }

    /// Terms `from..from + depth` of a panel.
    pub(crate) fn panel(&self, panel: usize, (from, depth): (usize, usize)) -> &[f32] {
        &self.buffer.as_slice()[(panel * self.depth + from) * COLUMNS..][..depth * COLUMNS]
    }
}
