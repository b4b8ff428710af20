//! How a caller follows a run, looks at it and stops it.

use std::ops::ControlFlow;

use super::pixels::Rendered;
use crate::Result;
use crate::samplers::State;

/// Told after every sampling step; may stop the run.
///
/// Any `FnMut(&Progress) -> ControlFlow<()>` that is `Send` is one.
pub trait Observer: Send {
    /// Step `progress.step` of `progress.steps` is done. `Break` cancels the run.
    fn stepped(&mut self, progress: &Progress<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(&Progress<'_>) -> ControlFlow<()> + Send> Observer for F {
    fn stepped(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

/// Nobody is watching.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn stepped(&mut self, _progress: &Progress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Where a run stands.
pub struct Progress<'a> {
    /// Steps that are done, from 1.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Images in the run.
    pub images: usize,
    pub(super) preview: &'a dyn Fn(usize) -> Result<Rendered>,
    pub(super) states: &'a [State],
}

impl Progress<'_> {
    /// What image `index` (from 0) is becoming: the present estimate, decoded. Costs one pass through the
    /// decoder, and nothing when it is not called.
    pub fn preview(&self, index: usize) -> Result<Rendered> {
        (self.preview)(index)
    }

    /// The latents of image `index` (from 0) after this step, `[channels, h, w]` in row-major order.
    pub fn latents(&self, index: usize) -> &[f32] {
        &self.states[index].latents
    }
}
