//! The matrix kernel that all dot products share, with its packed operands and blocking.
//!
//! A product is cut into tiles of [`ROWS`] x [`COLUMNS`] results and blocks of [`DEPTH`] terms.
//! Each tile starts from the results stored so far, so that every result is one chain of fused
//! multiply-adds over all terms in order, whatever the blocking, width or thread.
//!
//! The left operand is packed in panels of [`ROWS`] rows, `[panel][term][row]`, the right one in
//! panels of [`COLUMNS`] columns, `[panel][term][column]`. The layout is the same for every
//! instruction set; a narrower one covers a tile in several steps.

mod buffer;
mod pack;
mod rows;
mod tile;

pub(crate) use buffer::{Buffer, Out, with_offsets, with_scratch};
pub(crate) use pack::{LeftPanels, RightPanels, View, blocks, pack_left, pack_right};
pub(crate) use rows::multiply_rows;
pub(crate) use tile::{Panel, Right, Start, Tile, multiply_tile};

/// Rows of a tile, and of a panel of the left operand.
pub(crate) const ROWS: usize = 12;
/// Columns of a tile, and of a panel of the right operand.
pub(crate) const COLUMNS: usize = 32;
/// Columns of half a tile, which lie side by side in operand and output.
pub(crate) const HALF: usize = COLUMNS / 2;
/// Terms of a block: a left panel of this depth takes 12 KiB, a right one 32 KiB.
pub(crate) const DEPTH: usize = 256;
