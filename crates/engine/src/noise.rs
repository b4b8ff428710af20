//! Where an image's noise comes from, draw by draw.

use seedfarm_core::NoiseSource;
use seedfarm_numerics::philox;

/// The noise of one image.
#[derive(Debug, Clone)]
pub(crate) enum NoiseStream {
    /// Seedfarm's own, in which every draw has a number.
    Philox {
        /// The image's seed.
        seed: u64,
    },
}

impl NoiseStream {
    /// The noise of the image with this seed.
    pub fn new(source: NoiseSource, seed: u64) -> Self {
        match source {
            NoiseSource::Philox => Self::Philox { seed },
        }
    }

    /// Fills `out` with draw `number` of standard normal numbers.
    ///
    /// Draws are to be taken in the order in which the sampler's calls name them, 0 first.
    pub fn draw(&mut self, number: u32, out: &mut [f32]) {
        match self {
            Self::Philox { seed } => philox::standard_normal(*seed, number, out),
        }
    }
}
