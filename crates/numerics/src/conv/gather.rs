//! Convolutions with a stride or over narrow pictures: pixels are brought into panels, a block of taps
//! at a time, in place of a column buffer.

use std::ops::Range;

use super::run::Convolution;
use super::{ConvShape, Padding};
use crate::gemm::{COLUMNS, Out, Panel, ROWS, Start, Tile, multiply_tile};
use crate::isa::Kernel;
use crate::simd::Simd;

/// Panels of pixels of a job.
pub(super) const JOB_PANELS: usize = 8;

/// How the pixels of an output lie on an input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) shape: ConvShape,
    pub(super) stride: usize,
    pub(super) padding: Padding,
    /// Height and width of the input.
    pub(super) input: (usize, usize),
    /// Width of the output.
    pub(super) out_w: usize,
}

/// Pixels of a panel that lie in one row of the output.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Where in the panel.
    column: usize,
    len: usize,
    /// The input row and column of its first pixel under the kernel's first tap, plus the padding.
    y: usize,
    x: usize,
}

/// Where the pixels of some panels lie.
pub(super) struct Places<const PANELS: usize> {
    panels: [Pixels; PANELS],
    count: usize,
}

/// The runs of a panel, and the picture they are in.
#[derive(Debug, Clone, Copy)]
struct Pixels {
    picture: usize,
    pixels: usize,
    runs: [Run; COLUMNS],
    count: usize,
}

impl Geometry {
    /// The places of the panels that `panels` gives as picture and pixels, at most [`COLUMNS`].
    pub(super) fn places<const PANELS: usize>(
        &self,
        panels: impl Iterator<Item = (usize, Range<usize>)>,
    ) -> Places<PANELS> {
        let empty = Pixels { picture: 0, pixels: 0, runs: [Run::default(); COLUMNS], count: 0 };
        let mut places = Places { panels: [empty; PANELS], count: 0 };
        for (to, (picture, pixels)) in places.panels.iter_mut().zip(panels) {
            *to = self.panel(picture, pixels);
            places.count += 1;
        }
        places
    }

    fn panel(&self, picture: usize, pixels: Range<usize>) -> Pixels {
        let mut panel = Pixels { picture, pixels: pixels.len(), runs: [Run::default(); COLUMNS], count: 0 };
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let (row, column) = (pixel / self.out_w, pixel % self.out_w);
            let len = (self.out_w - column).min(pixels.end - pixel);
            let (y, x) = (row * self.stride, column * self.stride);
            panel.runs[panel.count] = Run { column: pixel - pixels.start, len, y, x };
            panel.count += 1;
            pixel += len;
        }
        panel
    }

    /// Fills `to` `[panel][tap][COLUMNS]` with the values of `x` `[picture][c, h, w]` that the
    /// `depth` taps from `from` on meet at the pixels of `places`; +0 outside the picture and
    /// beyond the last pixel.
    #[inline(always)]
    pub(super) fn gather<const PANELS: usize>(
        &self,
        x: &[f32],
        places: &Places<PANELS>,
        (from, depth): (usize, usize),
        to: &mut [f32],
    ) {
        let (h, w) = self.input;
        let (kernel_h, kernel_w) = (self.shape.kernel_h, self.shape.kernel_w);
        let (mut channel, mut ky, mut kx) =
            (from / (kernel_h * kernel_w), from / kernel_w % kernel_h, from % kernel_w);
        let (rows, _) = to.as_chunks_mut::<COLUMNS>();
        let mut tap = 0;
        while tap < depth {
            let taps = (depth - tap).min(kernel_w - kx);
            // All panels for one row of taps: they read on in the same rows of the picture.
            for (i, panel) in places.panels[..places.count].iter().enumerate() {
                let to = &mut rows[i * depth + tap..][..taps];
                for run in &panel.runs[..panel.count] {
                    match (run.y + ky).checked_sub(self.padding.top).filter(|&y| y < h) {
                        None => clear(to, run.column, run.len),
                        Some(y) => {
                            let plane = panel.picture * self.shape.in_channels + channel;
                            self.gather_run(&x[(plane * h + y) * w..][..w], run, kx, to);
                        }
                    }
                }
                if panel.pixels < COLUMNS {
                    clear(to, panel.pixels, COLUMNS - panel.pixels);
                }
            }
            tap += taps;
            (kx, ky) = (0, ky + 1);
            if ky == kernel_h {
                (ky, channel) = (0, channel + 1);
            }
        }
    }

    /// One run under the taps of a kernel row from `kx` on.
    #[inline(always)]
    fn gather_run(&self, row: &[f32], run: &Run, kx: usize, taps: &mut [[f32; COLUMNS]]) {
        let left = self.padding.left;
        for (kx, to) in (kx..).zip(taps) {
            let first = run.x + kx;
            let last = first + (run.len - 1) * self.stride;
            let to = &mut to[run.column..][..run.len];
            if first < left || last - left >= row.len() {
                self.gather_edge(row, first, to);
            } else if self.stride == 1 {
                copy(&row[first - left..=last - left], to);
            } else {
                every(&row[first - left..=last - left], self.stride, to);
            }
        }
    }

    /// A run that reaches beyond the picture: `first` counts from the left edge of the padding.
    #[inline(never)]
    fn gather_edge(&self, row: &[f32], first: usize, to: &mut [f32]) {
        let left = self.padding.left;
        let skipped = left.saturating_sub(first).div_ceil(self.stride).min(to.len());
        let (before, inside) = to.split_at_mut(skipped);
        before.fill(0.0);
        let start =
            first.saturating_add(skipped.saturating_mul(self.stride)).saturating_sub(left).min(row.len());
        let row = &row[start..];
        let (inside, after) = inside.split_at_mut(row.len().div_ceil(self.stride).min(inside.len()));
        after.fill(0.0);
        match self.stride {
            1 => inside.copy_from_slice(&row[..inside.len()]),
            stride => every(row, stride, inside),
        }
    }
}

fn clear(taps: &mut [[f32; COLUMNS]], column: usize, len: usize) {
    for to in taps {
        to[column..][..len].fill(0.0);
    }
}

/// Every `stride`th value.
#[inline(always)]
fn every(from: &[f32], stride: usize, to: &mut [f32]) {
    match stride {
        2 => to.iter_mut().zip(from.iter().step_by(2)).for_each(|(to, &x)| *to = x),
        _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &x)| *to = x),
    }
}

/// `copy_from_slice` with the usual lengths known to the compiler.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    if let (Ok(from), Ok(to)) = (<&[f32; COLUMNS]>::try_from(from), <&mut [f32; COLUMNS]>::try_from(&mut *to))
    {
        *to = *from;
        return;
    }
    match (from.as_chunks::<8>(), to.as_chunks_mut::<8>()) {
        (([from], []), ([to], [])) => *to = *from,
        (([from, from2], []), ([to, to2], [])) => (*to, *to2) = (*from, *from2),
        _ => to.copy_from_slice(from),
    }
}

/// Some panels of pixels times some panels of output channels.
pub(super) struct Job<'a> {
    pub(super) convolution: Convolution<'a>,
    /// Panels of pixels, counted through all pictures.
    pub(super) panels: Range<usize>,
    /// Panels of a picture; the last one may be short.
    pub(super) per_picture: usize,
    /// Panels of output channels.
    pub(super) channels: Range<usize>,
    pub(super) out: Out<'a>,
    /// Room for all panels of a block.
    pub(super) scratch: &'a mut [f32],
}

impl Kernel for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let panels = self.panels.clone().map(|panel| (panel / self.per_picture, self.pixels(panel)));
        let geometry = self.convolution.geometry;
        let places = geometry.places::<JOB_PANELS>(panels);
        for (from, depth) in self.convolution.weight.blocks() {
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
            let rows = ROWS.min(out_channels - first);
            let right = Panel::new(&self.scratch[i * depth * COLUMNS..], depth);
            let out = self.out.at(plane + pixels.start);
            let tile = Tile::joined((rows, pixels.len()), left, right, out, self.convolution.pixels);
            // SAFETY: the tile lies within the output and within this job's pixels and channels.
            unsafe { multiply_tile(s, tile, start) };
        }
    }
}
