//! The normal numbers of `torch.randn` on a CUDA device, but for their last bits.
//!
//! PyTorch gives every element a thread and every thread a sequence of its own from Philox4x32-10: the key is
//! the seed, the counter `[draw, 0, element, 0]`. Of the four words that come the first two go through Box and
//! Muller's transform as cuRAND writes it, and the sine is the element. On a device that sine is an
//! approximation in hardware (`__sincosf`, absolute error below 2^-21), which nothing else computes; here it
//! is the true one, rounded to f32. So an element differs from the device's by some units in its last place,
//! and every machine gives the same one.
//!
//! A device that cannot hold a thread for each element gives some threads several, and which ones depends on its
//! number of multiprocessors. [`MOST_ELEMENTS`] is where this module stops; smaller devices have fewer
//! threads (28 multiprocessors of 1536 threads hold 43,008), and what they drew beyond is not reproduced.
//!
//! Compared with the values that AUTOMATIC1111's stable-diffusion-webui publishes with its own imitation;
//! never with a device of our own.

use crate::philox::philox4x32_10;
use crate::{NumericsError, Result};

/// Longest tensor: the latents of a picture of 1024 x 1024 pixels.
pub const MOST_ELEMENTS: usize = 65_536;
/// 2^-32, and that times 2 pi: both f32.
const UNIT: f32 = 1.0 / 4_294_967_296.0;
const TURN: f32 = UNIT * std::f32::consts::TAU;

/// `torch.Generator("cuda")`.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    draws: u32,
}

impl Generator {
    /// The generator after `manual_seed(seed)`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, draws: 0 }
    }

    /// Fills `out` as `torch.randn(len, generator=self, device="cuda")` would, and moves the generator on.
    ///
    /// Errors: more than [`MOST_ELEMENTS`], which depend on the device; the generator then stays.
    pub fn standard_normal(&mut self, out: &mut [f32]) -> Result<()> {
        if out.len() > MOST_ELEMENTS {
            return Err(NumericsError::DeviceNoise { elements: out.len(), most: MOST_ELEMENTS });
        }
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        for (element, value) in (0_u32..).zip(out.iter_mut()) {
            let words = philox4x32_10([self.draws, 0, element, 0], key);
            *value = box_muller(words[0], words[1]);
        }
        self.draws = self.draws.wrapping_add(1);
        Ok(())
    }
}

/// The sine of cuRAND's transform; the logarithm and the sine are those of the `libm` crate in f64.
fn box_muller(x: u32, y: u32) -> f32 {
    let uniform = (x as f32).mul_add(UNIT, UNIT / 2.0);
    let angle = (y as f32).mul_add(TURN, TURN / 2.0);
    let radius = (-2.0 * libm::log(f64::from(uniform)) as f32).sqrt();
    radius * libm::sin(f64::from(angle)) as f32
}

#[cfg(test)]
mod tests;
