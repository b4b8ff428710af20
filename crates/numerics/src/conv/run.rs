//! Running a packed convolution.

use std::ops::Range;

use super::gather::{self, Geometry};
use super::window::{self, Rectangles};
use crate::gemm::{COLUMNS, LeftPanels, Out, with_offsets, with_scratch};
use crate::isa::Isa;
use crate::parallel;

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
    /// Computes all of `out` over the current threads. A job is some pixels times some panels of
    /// output channels.
    pub(super) fn run(self, out: &mut [f32]) {
        let Geometry { shape, stride, out_w, .. } = self.geometry;
        let area = shape.kernel_h * shape.kernel_w;
        // With narrower vectors unaligned loads cost more than the copies that they save: 71 % of the peak
        // against 84 % with AVX2.
        let worth_it = Isa::active() == Isa::Avx512 && self.weight.block.is_multiple_of(area);
        match Rectangles::of(&shape, stride, (self.pixels / out_w, out_w)).filter(|_| worth_it) {
            Some(rectangles) => self.by_windows(rectangles, self.weight.block / area, Out::new(out)),
            None => self.by_gathering(Out::new(out)),
        }
    }

    fn by_windows(self, rectangles: Rectangles, channels_each: usize, out: Out<'_>) {
        let isa = Isa::active();
        let window_len = rectangles.window_len(&self.geometry.shape, channels_each);
        self.for_each_job(self.pictures * rectangles.len(), |rectangle, channels| {
            with_offsets(|offsets| {
                with_scratch([window_len], |[window]| {
                    isa.run(window::Job {
                        convolution: self,
                        rectangles,
                        picture: rectangle / rectangles.len(),
                        rectangle: rectangle % rectangles.len(),
                        channels,
                        out,
                        window,
                        offsets,
                    });
                });
            });
        });
    }

    fn by_gathering(self, out: Out<'_>) {
        let isa = Isa::active();
        let per_picture = self.pixels.div_ceil(COLUMNS);
        let panels = self.pictures * per_picture;
        self.for_each_job(panels.div_ceil(gather::JOB_PANELS), |job, channels| {
            let first = job * gather::JOB_PANELS;
            with_scratch([gather::JOB_PANELS * self.weight.block * COLUMNS], |[scratch]| {
                isa.run(gather::Job {
                    convolution: self,
                    panels: first..panels.min(first + gather::JOB_PANELS),
                    per_picture,
                    channels,
                    out,
                    scratch,
                });
            });
        });
    }

    /// Runs jobs of some pixels, by number, times some panels of output channels.
    fn for_each_job(&self, pixel_jobs: usize, job: impl Fn(usize, Range<usize>) + Sync + Send) {
        let work = 2 * self.pictures * self.pixels * self.weight.rows * self.weight.depth;
        let panels = self.weight.panels();
        let splits = parallel::jobs_for(work).div_ceil(pixel_jobs);
        let panels_each = panels.div_ceil(splits);
        let channel_jobs = panels.div_ceil(panels_each);
        parallel::for_each(pixel_jobs * channel_jobs, work, |index| {
            let first = index % channel_jobs * panels_each;
            job(index / channel_jobs, first..panels.min(first + panels_each));
        });
    }
}
