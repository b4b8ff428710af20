//! Attention of one head for a range of its queries.
//!
//! [`COLUMNS`] queries at a time lie across the lanes: their scores `[key][query]` are a product
//! of packed keys and queries, the softmax works on each lane alone, and the weights so made are
//! the packed right operand of the product with the values.

use std::ops::Range;

use super::{AttentionShape, Mask};
use crate::gemm::{
    COLUMNS, DEPTH, Out, Panel, ROWS, Start, Tile, View, multiply_tile, pack_left, pack_right,
};
use crate::isa::Kernel;
use crate::math::exp_v;
use crate::simd::Simd;

/// One head of one sequence, for some of its queries.
pub(super) struct Job<'a> {
    pub(super) shape: AttentionShape,
    pub(super) scale: f32,
    pub(super) mask: Mask,
    /// Rows of this head's queries, keys and values.
    pub(super) q: View<'a>,
    pub(super) k: View<'a>,
    pub(super) v: View<'a>,
    pub(super) queries: Range<usize>,
    pub(super) out: Out<'a>,
    /// Where this head's row of query 0 begins in `out`.
    pub(super) out_start: usize,
    /// Parts of the lengths that [`scratch_lengths`] gives.
    pub(super) scratch: [&'a mut [f32]; 5],
}

/// Room for keys, values, queries, weights and results.
pub(super) fn scratch_lengths(shape: &AttentionShape) -> [usize; 5] {
    let (d, keys) = (shape.head_dim, shape.kv_len);
    let (d_padded, keys_padded) = (d.next_multiple_of(ROWS), keys.next_multiple_of(ROWS));
    let lines = |len: usize| len.next_multiple_of(16);
    [lines(keys_padded * d), lines(d_padded * keys), d * COLUMNS, keys * COLUMNS, d_padded * COLUMNS]
}

impl Kernel for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (d, keys) = (self.shape.head_dim, self.shape.kv_len);
        let key_panels = keys.next_multiple_of(ROWS) * d;
        let value_panels = d.next_multiple_of(ROWS) * keys;
        pack_left(self.k, (0, keys), (0, d), &mut self.scratch[0][..key_panels]);
        pack_left(self.v.transposed(), (0, d), (0, keys), &mut self.scratch[1][..value_panels]);
        for first in self.queries.clone().step_by(COLUMNS) {
            let count = COLUMNS.min(self.queries.end - first);
            pack_right(self.q.transposed(), (first, count), (0, d), &mut self.scratch[2][..d * COLUMNS]);
            let most = match self.mask {
                Mask::None => self.scores::<S, false>(s, first),
                Mask::Causal => self.scores::<S, true>(s, first),
            };
            let totals = match self.mask {
                Mask::None => self.results::<S, false>(s, first, &most),
                Mask::Causal => self.results::<S, true>(s, first, &most),
            };
            self.write(s, (first, count), &totals);
        }
    }
}

impl Job<'_> {
    /// Products of all keys with the queries, not yet scaled; gives the largest score of each query.
    #[inline(always)]
    fn scores<S: Simd, const CAUSAL: bool>(&mut self, s: S, first: usize) -> [f32; COLUMNS] {
        let (d, keys) = (self.shape.head_dim, self.shape.kv_len);
        let score = Score::<CAUSAL> { scale: self.scale, first };
        let mut most = [f32::NEG_INFINITY; COLUMNS];
        let [k, _, q, scores, _] = &mut self.scratch;
        for (i, scores) in scores[..keys * COLUMNS].chunks_mut(ROWS * COLUMNS).enumerate() {
            let (left, right) = (&k[i * ROWS * d..][..ROWS * d], Panel::new(q, d));
            let rows = scores.len() / COLUMNS;
            let tile = Tile::joined((rows, COLUMNS), left, right, scores.as_mut_ptr(), COLUMNS);
            // SAFETY: the tile is all of `scores`.
            unsafe { multiply_tile(s, tile, Start::Zero) };
            for lane in (0..COLUMNS).step_by(S::LANES) {
                // SAFETY: every vector lies within an array of COLUMNS, of which LANES is a divisor.
                let mut largest = unsafe { s.load(most.as_ptr().add(lane)) };
                for (row, scores) in scores.chunks_exact(COLUMNS).enumerate() {
                    largest = s.greater(score.at(s, scores, i * ROWS + row, lane), largest);
                }
                // SAFETY: as above.
                unsafe { s.store(most.as_mut_ptr().add(lane), largest) };
            }
        }
        most
    }

    /// Turns scores into weights, and multiplies the values with them, `[head_dim][query]`, a block of
    /// keys at a time; gives the sum of each query's weights.
    #[inline(always)]
    fn results<S: Simd, const CAUSAL: bool>(
        &mut self,
        s: S,
        first: usize,
        most: &[f32; COLUMNS],
    ) -> [f32; COLUMNS] {
        let (d, keys) = (self.shape.head_dim, self.shape.kv_len);
        let score = Score::<CAUSAL> { scale: self.scale, first };
        let mut totals = [0.0; COLUMNS];
        let [_, v, _, weights, results] = &mut self.scratch;
        for from in (0..keys).step_by(DEPTH) {
            let depth = DEPTH.min(keys - from);
            let weights = &mut weights[from * COLUMNS..][..depth * COLUMNS];
            score.to_weights(s, from, weights, most, &mut totals);
            let start = if from == 0 { Start::Zero } else { Start::Stored };
            for (i, results) in results[..d * COLUMNS].chunks_mut(ROWS * COLUMNS).enumerate() {
                let left = &v[(i * keys + from) * ROWS..][..depth * ROWS];
                let right = Panel::new(weights, depth);
                let rows = results.len() / COLUMNS;
                let tile = Tile::joined((rows, COLUMNS), left, right, results.as_mut_ptr(), COLUMNS);
                // SAFETY: the tile is all of `results`.
                unsafe { multiply_tile(s, tile, start) };
            }
        }
        totals
    }

    /// Divides by the totals and writes the rows of `count` queries.
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, (first, count): (usize, usize), totals: &[f32; COLUMNS]) {
        let d = self.shape.head_dim;
        let width = self.shape.heads * d;
        let (results, _) = self.scratch[4][..d * COLUMNS].as_chunks_mut::<COLUMNS>();
        for row in results.iter_mut() {
            for lane in (0..COLUMNS).step_by(S::LANES) {
                // SAFETY: every vector lies within an array of COLUMNS.
                unsafe {
                    let total = s.load(totals.as_ptr().add(lane));
                    let at = row.as_mut_ptr().add(lane);
                    s.store(at, s.div(s.load(at), total));
                }
            }
        }
        for lane in 0..count {
            let start = self.out.at(self.out_start + (first + lane) * width);
            // SAFETY: `head_dim` places of a row of this job's head and queries.
            let to = unsafe { std::slice::from_raw_parts_mut(start, d) };
            for (to, row) in to.iter_mut().zip(results.iter()) {
                *to = row[lane];
            }
        }
    }
}

/// How a product of key and query becomes a score.
#[derive(Clone, Copy)]
struct Score<const CAUSAL: bool> {
    scale: f32,
    /// The query in lane 0.
    first: usize,
}

impl<const CAUSAL: bool> Score<CAUSAL> {
    /// The scores of a key with the queries from `lane` on; `row` holds the products of all lanes.
    #[inline(always)]
    fn at<S: Simd>(self, s: S, row: &[f32], key: usize, lane: usize) -> S::V {
        // SAFETY: the slice is as long as a vector.
        let score = s.mul(s.splat(self.scale), unsafe { s.load(row[lane..][..S::LANES].as_ptr()) });
        if !CAUSAL {
            return score;
        }
        let places: [f32; COLUMNS] = std::array::from_fn(|lane| (self.first + lane) as f32);
        // SAFETY: the slice is as long as a vector.
        let place = unsafe { s.load(places[lane..][..S::LANES].as_ptr()) };
        s.if_gt(s.splat(key as f32), place, s.splat(f32::NEG_INFINITY), score)
    }

    /// Turns the products of the keys from `from` on into weights and adds them to the totals.
    #[inline(always)]
    fn to_weights<S: Simd>(
        self,
        s: S,
        from: usize,
        rows: &mut [f32],
        most: &[f32; COLUMNS],
        totals: &mut [f32; COLUMNS],
    ) {
        for lane in (0..COLUMNS).step_by(S::LANES) {
            // SAFETY: every vector lies within an array of COLUMNS, of which LANES is a divisor.
            let (most, mut total) =
                unsafe { (s.load(most.as_ptr().add(lane)), s.load(totals.as_ptr().add(lane))) };
            for (i, row) in rows.chunks_exact_mut(COLUMNS).enumerate() {
                let weight = exp_v(s, s.sub(self.at(s, row, from + i, lane), most));
                total = s.add(total, weight);
                // SAFETY: as above.
                unsafe { s.store(row.as_mut_ptr().add(lane), weight) };
            }
            // SAFETY: as above.
            unsafe { s.store(totals.as_mut_ptr().add(lane), total) };
        }
    }
}
