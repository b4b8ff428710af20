//! A sampler's plan of calls to the network, and what it keeps of an image between them.

use super::Settings;

/// One call to the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Call {
    /// The step that the call belongs to, from 0 at the first of the recipe's timesteps.
    pub step: usize,
    /// The timestep that the network is told.
    pub timestep: f64,
    /// Whether the step is done after this call.
    pub ends_step: bool,
    /// The number of the noise draw that the call takes, if it takes one. A function of the step alone, so
    /// that a replay depends on nothing else; see [`draw_of`].
    pub draw: Option<u32>,
}

/// One image between two calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The latents, `[channels, h, w]` in row-major order.
    pub latents: Vec<f32>,
    /// What the sampler remembers, each as long as the latents, the newest last.
    pub kept: Vec<Vec<f32>>,
}

impl State {
    /// An image before the first call.
    pub fn new(latents: Vec<f32>) -> Self {
        Self { latents, kept: Vec::new() }
    }

    /// Remembers `values`, and of all that is remembered the newest `most`.
    pub(super) fn keep(&mut self, values: Vec<f32>, most: usize) {
        self.kept.push(values);
        let old = self.kept.len().saturating_sub(most);
        self.kept.drain(..old);
    }

    /// What was remembered `back` times ago, 0 for the newest.
    pub(super) fn newest(&self, back: usize) -> &[f32] {
        &self.kept[self.kept.len() - 1 - back]
    }
}

/// The number of draw `index` of a step that takes `a_step` draws: draw 0 made the first latents, and the
/// draws of the steps follow without a gap.
pub(super) fn draw_of(step: usize, index: u32, a_step: u32) -> Option<u32> {
    u32::try_from(step).ok().and_then(|step| step.checked_mul(a_step)).map(|first| 1 + first + index)
}

/// The plan of a sampler that calls the network once a step.
pub(super) fn one_a_step(settings: &Settings<'_>, takes_noise: bool) -> Vec<Call> {
    let call = |(step, timestep): (usize, &f64)| Call {
        step,
        timestep: *timestep,
        ends_step: true,
        draw: if takes_noise { draw_of(step, 0, 1) } else { None },
    };
    settings.timesteps.iter().enumerate().skip(settings.start).map(call).collect()
}
