//! Running a packed convolution.

use std::ops::Range;

use rayon::prelude::*;

use super::gather::Geometry;
use crate::gemm::{
    COLUMNS, DEPTH, JOBS_PER_THREAD, LeftPanels, Out, ROWS, Start, Tile, blocks, multiply_tile, with_scratch,
};
use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Panels of pixels of a job: packed for one block of taps they take 256 KiB.
const JOB_PANELS: usize = 8;

/// A convolution of `pictures` pictures.
#[derive(Clone, Copy)]
pub(super) struct Convolution<'a> {
    pub(super) geometry: Geometry,
    pub(super) weight: &'a LeftPanels,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) x: &'a [f32],
    pub(super) pictures: usize,
    /// Pixels of an output channel.
    pub(super) pixels: usize,
}

impl Convolution<'_> {
    /// Computes all of `out` over the current threads. A job is some panels of pixels times some
    /// panels of output channels.
    pub(super) fn run(self, out: &mut [f32]) {
        let isa = Isa::active();
        let threads = rayon::current_num_threads();
        let per_picture = self.pixels.div_ceil(COLUMNS);
        let panels = self.pictures * per_picture;
        let pixel_jobs = panels.div_ceil(JOB_PANELS);
        let channel_panels = self.weight.panels();
        let splits = if threads == 1 { 1 } else { (JOBS_PER_THREAD * threads).div_ceil(pixel_jobs) };
        let channels_each = channel_panels.div_ceil(splits);
        let channel_jobs = channel_panels.div_ceil(channels_each);
        let out = Out::new(out);
        (0..pixel_jobs * channel_jobs).into_par_iter().for_each(|job| {
            let first = job / channel_jobs * JOB_PANELS;
            let channel = job % channel_jobs * channels_each;
            with_scratch([JOB_PANELS * DEPTH * COLUMNS], |[scratch]| {
                isa.run(Job {
                    convolution: self,
                    panels: first..panels.min(first + JOB_PANELS),
                    per_picture,
                    channels: channel..channel_panels.min(channel + channels_each),
                    out,
                    scratch,
                });
            });
        });
    }
}

struct Job<'a> {
    convolution: Convolution<'a>,
    /// Panels of pixels, counted through all pictures.
    panels: Range<usize>,
    /// Panels of a picture; the last one may be short.
    per_picture: usize,
    /// Panels of output channels.
    channels: Range<usize>,
    out: Out<'a>,
    /// Room for all panels of a block.
    scratch: &'a mut [f32],
}

impl Kernel for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let panels = self.panels.clone().map(|panel| (panel / self.per_picture, self.pixels(panel)));
        let geometry = self.convolution.geometry;
        let places = geometry.places::<JOB_PANELS>(panels);
        for (from, depth) in blocks(self.convolution.weight.depth) {
            geometry.gather(self.convolution.x, &places, (from, depth), self.scratch);
            for channels in self.channels.clone() {
                self.channel_panel(s, channels, (from, depth));
            }
        }
    }
}

impl Job<'_> {
    /// The pixels of a panel within its picture.
    fn pixels(&self, panel: usize) -> Range<usize> {
        let first = panel % self.per_picture * COLUMNS;
        first..self.convolution.pixels.min(first + COLUMNS)
    }

    #[inline(always)]
    fn channel_panel<S: Simd>(&self, s: S, channels: usize, (from, depth): (usize, usize)) {
        let out_channels = self.convolution.weight.rows;
        let first = channels * ROWS;
        let start = match self.convolution.bias {
            _ if from > 0 => Start::Stored,
            None => Start::Zero,
            Some(bias) => Start::PerRow(&bias[first..]),
        };
        let left = self.convolution.weight.panel(channels, (from, depth));
        for (i, panel) in self.panels.clone().enumerate() {
            let pixels = self.pixels(panel);
            let picture = panel / self.per_picture;
            let plane = (picture * out_channels + first) * self.convolution.pixels;
            let tile = Tile {
                rows: ROWS.min(out_channels - first),
                columns: pixels.len(),
                left,
                right: &self.scratch[i * depth * COLUMNS..][..depth * COLUMNS],
                out: self.out.at(plane + pixels.start),
                row_stride: self.convolution.pixels,
            };
            // SAFETY: the tile lies within the output and within this job's pixels and channels.
            unsafe { multiply_tile(s, tile, start) };
        }
    }
}
