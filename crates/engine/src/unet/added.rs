//! What a sample is conditioned on beside its timestep and its text.

use candle_core::Tensor;

use crate::config::unet::TIME_IDS;

/// The conditions of one sample. A network takes of them what it was trained with.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    /// The pooled text, `[1, width]`, for Stable Diffusion XL.
    pub pooled: Option<Tensor>,
    /// In pixels: height and width of the original picture, top and left of its crop, height and width of
    /// the target, for Stable Diffusion XL.
    pub time_ids: [f64; TIME_IDS],
    /// The guidance scale, for networks that were distilled to take it as an input. Those are not to be run
    /// with the negative prompt as well.
    pub guidance: f64,
}

/// Conditions as one network takes them. They do not depend on the timestep, so they are prepared once an image.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    /// Joins the sinusoids of the timestep: `[1, 1, width]` for each sample.
    pub(super) guidance: Option<Vec<Tensor>>,
    /// Joins the embedding of the timestep: `[1, 1, 4 * width]` for each sample.
    pub(super) embedding: Option<Vec<Tensor>>,
}

impl Added {
    /// For how many samples it was prepared.
    pub(super) fn samples(&self) -> usize {
        self.guidance.as_ref().or(self.embedding.as_ref()).map_or(0, Vec::len)
    }
}
