//! Decoding in tiles, so that memory is bounded by the tile and not by the picture.
//!
//! The result is not that of decoding at once, since the norms see one tile at a time; it is exact within
//! the definition in `docs/DETERMINISM.md`, "Tiles". A picture that fits one tile is decoded at once.

use std::ops::Range;

use candle_core::Tensor;

use super::VaeDecoder;
use crate::{Error, Result};

/// The side of a tile and how much of it neighbours share, in latent elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiling {
    tile: usize,
    overlap: usize,
}

impl Tiling {
    /// Latent elements a side that a tile may have.
    pub const TILES: std::ops::RangeInclusive<usize> = 8..=1024;

    /// Tiles of at most `tile` latent elements a side, of which neighbours share `overlap`.
    ///
    /// Errors: a tile outside [`Self::TILES`], or an overlap that is none or more than a third of it.
    pub fn new(tile: usize, overlap: usize) -> Result<Self> {
        if !Self::TILES.contains(&tile) {
            return Err(Error::Recipe(format!(
                "a tile of {tile} latents a side is outside {:?}",
                Self::TILES
            )));
        }
        if overlap == 0 || overlap > tile / 3 {
            let most = tile / 3;
            return Err(Error::Recipe(format!(
                "an overlap of {overlap} latents is outside 1 to {most}, a third of the tile of {tile}"
            )));
        }
        Ok(Self { tile, overlap })
    }

    /// The tiles along a side of `length` latent elements: each shares exactly the overlap with the next,
    /// and their lengths differ by one at most.
    fn along(self, length: usize) -> Vec<Range<usize>> {
        // One tile shares nothing.
        let overlap = if length <= self.tile { 0 } else { self.overlap };
        let new = length - overlap;
        let count = if overlap == 0 { 1 } else { new.div_ceil(self.tile - overlap) };
        (0..count).map(|index| index * new / count..(index + 1) * new / count + overlap).collect()
    }
}

impl VaeDecoder {
    /// As [`VaeDecoder::decode`], tile by tile: latents `[batch, latent_channels, h, w]` to
    /// `[batch, 3, H, W]`.
    pub fn decode_tiled(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let (batch, _, height, width) = latents.dims4()?;
        let (rows, columns) = (tiling.along(height), tiling.along(width));
        if rows.len() == 1 && columns.len() == 1 {
            return self.decode(latents);
        }
        let scale = self.config().pixels_per_latent();
        let mut picture = Planes::new(3 * batch, height * scale, width * scale);
        for row in rows {
            let strip_latents = latents.narrow(2, row.start, row.len())?;
            let mut strip = Planes::new(3 * batch, row.len() * scale, width * scale);
            for column in &columns {
                let tile = strip_latents.narrow(3, column.start, column.len())?.contiguous()?;
                let tile = self.decode(&tile)?.flatten_all()?.to_vec1::<f32>()?;
                let tile = Planes { values: tile, height: row.len() * scale, width: column.len() * scale };
                let shared = if column.start == 0 { 0 } else { tiling.overlap * scale };
                strip.join_right(&tile, column.start * scale, shared);
            }
            let shared = if row.start == 0 { 0 } else { tiling.overlap * scale };
            picture.join_below(&strip, row.start * scale, shared);
        }
        let Planes { values, height, width } = picture;
        Ok(Tensor::from_vec(values, (batch, 3, height, width), latents.device())?)
    }
}

/// Planes of numbers, row by row.
struct Planes {
    values: Vec<f32>,
    height: usize,
    width: usize,
}

impl Planes {
    fn new(planes: usize, height: usize, width: usize) -> Self {
        Self { values: vec![0.0; planes * height * width], height, width }
    }

    /// Writes `tile`, which is as high, from column `left` on; its first `shared` columns are blended with
    /// what is there.
    fn join_right(&mut self, tile: &Self, left: usize, shared: usize) {
        let rows = self.values.chunks_exact_mut(self.width).zip(tile.values.chunks_exact(tile.width));
        for (row, tile) in rows {
            for (column, (here, new)) in row[left..].iter_mut().zip(tile).enumerate() {
                *here = blend(*here, *new, column, shared);
            }
        }
    }

    /// Writes `strip`, which is as wide, from row `top` on; its first `shared` rows are blended with what is
    /// there.
    fn join_below(&mut self, strip: &Self, top: usize, shared: usize) {
        let (plane, strip_plane) = (self.height * self.width, strip.height * strip.width);
        let planes = self.values.chunks_exact_mut(plane).zip(strip.values.chunks_exact(strip_plane));
        for (plane, strip) in planes {
            let rows = plane[top * self.width..].chunks_exact_mut(self.width);
            for (row, (here, new)) in rows.zip(strip.chunks_exact(self.width)).enumerate() {
                for (here, new) in here.iter_mut().zip(new) {
                    *here = blend(*here, *new, row, shared);
                }
            }
        }
    }
}

/// The blend of two tiles at place `at` of `shared` ones: at the first almost the earlier tile alone, at the
/// last almost the later one. Beyond them it is the later tile alone.
fn blend(earlier: f32, later: f32, at: usize, shared: usize) -> f32 {
    if at >= shared {
        return later;
    }
    let weight = (2 * at + 1) as f32 / (2 * shared) as f32;
    (1.0 - weight) * earlier + weight * later
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tiles_cover_every_place_once_or_in_one_overlap(
            length in 1usize..3000, tile in 8usize..200, overlap in 1usize..66,
        ) {
            prop_assume!(overlap <= tile / 3);
            let tiles = Tiling::new(tile, overlap).unwrap().along(length);
            prop_assert_eq!(tiles[0].start, 0);
            prop_assert_eq!(tiles[tiles.len() - 1].end, length);
            prop_assert!(tiles.iter().all(|range| range.len() <= tile));
            prop_assert!(tiles.windows(2).all(|pair| pair[0].end == pair[1].start + overlap));
            prop_assert!(tiles.windows(3).all(|three| three[0].end <= three[2].start));
        }
    }

    #[test]
    fn tiles_too_small_too_large_or_with_too_much_in_common_are_refused() {
        for (tile, overlap) in [(7, 1), (1025, 8), (8, 0), (9, 4), (usize::MAX, 1)] {
            let error = Tiling::new(tile, overlap).unwrap_err().to_string();
            assert!(error.contains("outside"), "{error}");
        }
        assert!(Tiling::new(64, 16).is_ok());
    }

    #[test]
    fn weights_of_a_blend_go_from_one_tile_to_the_other_and_sum_to_one() {
        let blends: Vec<f32> = (0..5).map(|at| blend(8.0, 0.0, at, 4)).collect();
        assert_eq!(blends, [7.0, 5.0, 3.0, 1.0, 0.0]);
        assert_eq!(blend(3.0, 3.0, 1, 4), 3.0);
    }
}
