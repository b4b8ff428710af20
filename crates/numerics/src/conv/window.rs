//! Convolutions with a stride of 1 over wide pictures: the kernels read pixels where they lie.
//!
//! A job computes a rectangle of the output. The part of the input under it is copied to a small
//! window with the padding around it, a block of channels at a time. Each tap then is an offset into the
//! window, and [`HALF`] neighbouring pixels of a row are a run of values from there: no column buffer.

use std::ops::Range;

use super::run::Convolution;
use crate::gemm::{HALF, ROWS, Right, Start, Tile, multiply_tile};
use crate::isa::Kernel;
use crate::simd::Simd;
use crate::{ConvShape, gemm::Out};

/// Runs of pixels in a job.
pub(super) const JOB_RUNS: usize = 32;
/// Runs of pixels side by side in a job, where the kernel has several rows.
const RUNS_ACROSS: usize = 8;
/// Runs must be filled to this share, in percent, to be worth it.
const LEAST_FILLED: usize = 85;

/// How an output is cut into rectangles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rectangles {
    /// Runs of a rectangle side by side.
    across: usize,
    /// Rows of a rectangle.
    down: usize,
    /// Rectangles side by side, and one above the other.
    count: (usize, usize),
    /// Height and width of the output.
    out: (usize, usize),
}

impl Rectangles {
    /// Rectangles for an output of this height and width; none where its rows would leave too much
    /// of the runs empty.
    pub(super) fn of(shape: &ConvShape, stride: usize, (h, w): (usize, usize)) -> Option<Self> {
        let runs = w.div_ceil(HALF);
        if stride != 1 || 100 * w < LEAST_FILLED * runs * HALF {
            return None;
        }
        let across = if shape.kernel_h == 1 { JOB_RUNS } else { RUNS_ACROSS }.min(runs);
        let down = (JOB_RUNS / across).min(h);
        Some(Self { across, down, count: (runs.div_ceil(across), h.div_ceil(down)), out: (h, w) })
    }

    /// Rectangles of a picture.
    pub(super) fn len(&self) -> usize {
        self.count.0 * self.count.1
    }

    /// Values of a window's row, and of a channel of it.
    fn pitches(&self, shape: &ConvShape) -> (usize, usize) {
        let row = self.across * HALF + shape.kernel_w - 1;
        (row, (self.down + shape.kernel_h - 1) * row)
    }

    /// Values of a window of `channels` channels.
    pub(super) fn window_len(&self, shape: &ConvShape, channels: usize) -> usize {
        channels * self.pitches(shape).1
    }
}

/// [`HALF`] pixels of a row of the output.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Where the window holds what its first pixel meets under the kernel's first tap.
    window: usize,
    /// Its first pixel within the output's channel.
    pixel: usize,
    /// Pixels that exist.
    len: usize,
}

/// A right operand inside a window.
#[derive(Clone, Copy)]
struct Taps {
    halves: [*const f32; 2],
    /// For each tap, how far from the first one's place.
    offsets: *const u32,
}

impl Right for Taps {
    #[inline(always)]
    unsafe fn at(self, term: usize, column: usize) -> *const f32 {
        // SAFETY: the caller's promise: there is an offset for every term.
        let offset = unsafe { self.offsets.add(term).read() };
        self.halves[column / HALF].wrapping_add(offset as usize + column % HALF)
    }
}

/// One rectangle of one picture, for some panels of output channels.
pub(super) struct Job<'a> {
    pub(super) convolution: Convolution<'a>,
    pub(super) rectangles: Rectangles,
    pub(super) picture: usize,
    /// Which rectangle of the picture.
    pub(super) rectangle: usize,
    /// Panels of output channels.
    pub(super) channels: Range<usize>,
    pub(super) out: Out<'a>,
    /// Room for a window of a block of channels.
    pub(super) window: &'a mut [f32],
    /// Room for the offsets of a block of taps.
    pub(super) offsets: &'a mut Vec<u32>,
}

impl Kernel for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (runs, count) = self.runs();
        self.fill_offsets();
        let area = self.area();
        for (from, depth) in self.convolution.weight.blocks() {
            self.fill_window(from / area..(from + depth) / area);
            for channels in self.channels.clone() {
                self.channel_panel(s, channels, (from, depth), &runs[..count]);
            }
        }
    }
}

impl Job<'_> {
    fn shape(&self) -> ConvShape {
        self.convolution.geometry.shape
    }

    fn area(&self) -> usize {
        self.shape().kernel_h * self.shape().kernel_w
    }

    /// The rectangle's first row and column.
    fn corner(&self) -> (usize, usize) {
        let Rectangles { across, down, count, .. } = self.rectangles;
        (self.rectangle / count.0 * down, self.rectangle % count.0 * across * HALF)
    }

    fn runs(&self) -> ([Run; JOB_RUNS], usize) {
        let Rectangles { across, down, out: (h, w), .. } = self.rectangles;
        let (pitch, _) = self.rectangles.pitches(&self.shape());
        let (top, left) = self.corner();
        let mut runs = [Run::default(); JOB_RUNS];
        let mut count = 0;
        for row in 0..down.min(h - top) {
            for column in (0..across * HALF).step_by(HALF).take_while(|column| left + column < w) {
                let (pixel, len) = ((top + row) * w + left + column, HALF.min(w - left - column));
                runs[count] = Run { window: row * pitch + column, pixel, len };
                count += 1;
            }
        }
        (runs, count)
    }

    /// Where each tap of a whole block lies in the window.
    fn fill_offsets(&mut self) {
        let ConvShape { kernel_h, kernel_w, .. } = self.shape();
        let (row, channel) = self.rectangles.pitches(&self.shape());
        let taps = self.convolution.weight.block;
        let place = |tap: usize| {
            let (c, ky, kx) = (tap / (kernel_h * kernel_w), tap / kernel_w % kernel_h, tap % kernel_w);
            (c * channel + ky * row + kx) as u32
        };
        self.offsets.clear();
        self.offsets.extend((0..taps).map(place));
    }

    /// Copies `channels` of the input under the rectangle, +0 outside the picture.
    fn fill_window(&mut self, channels: Range<usize>) {
        let geometry = &self.convolution.geometry;
        let (h, w) = geometry.input;
        let (pitch, plane) = self.rectangles.pitches(&geometry.shape);
        let (top, left) = self.corner();
        let padding = geometry.padding;
        // The window's columns `before..before + width` are the picture's from `first` on.
        let before = padding.left.saturating_sub(left).min(pitch);
        let first = (left + before).saturating_sub(padding.left).min(w);
        let width = (w - first).min(pitch - before);
        for (to, channel) in self.window.chunks_exact_mut(plane).zip(channels) {
            let picture =
                &self.convolution.x[(self.picture * geometry.shape.in_channels + channel) * h * w..][..h * w];
            for (row, to) in to.chunks_exact_mut(pitch).enumerate() {
                match (top + row).checked_sub(padding.top).filter(|&y| y < h) {
                    None => to.fill(0.0),
                    Some(y) => {
                        to[..before].fill(0.0);
                        to[before..][..width].copy_from_slice(&picture[y * w + first..][..width]);
                        to[before + width..].fill(0.0);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn channel_panel<S: Simd>(&self, s: S, channels: usize, block: (usize, usize), runs: &[Run]) {
        let Convolution { weight, bias, pixels, .. } = self.convolution;
        let first = channels * ROWS;
        let start = match bias {
            _ if block.0 > 0 => Start::Stored,
            None => Start::Zero,
            Some(bias) => Start::PerRow(&bias[first..]),
        };
        let left = weight.panel(channels, block);
        let plane = (self.picture * weight.rows + first) * pixels;
        for pair in runs.chunks(2) {
            let (a, b) = (pair[0], *pair.get(1).unwrap_or(&Run { len: 0, ..pair[0] }));
            let halves = [a, b].map(|run| self.window[run.window..].as_ptr());
            let tile = Tile {
                rows: ROWS.min(weight.rows - first),
                columns: [a.len, b.len],
                left,
                right: Taps { halves, offsets: self.offsets[..block.1].as_ptr() },
                out: [a, b].map(|run| self.out.at(plane + run.pixel)),
                row_stride: pixels,
            };
            // SAFETY: the tile's pixels and channels are this job's; every run reaches, from each tap's
            // offset on, to the end of a row of the window at most.
            unsafe { multiply_tile(s, tile, start) };
        }
    }
}
