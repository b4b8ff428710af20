//! Where an image's noise comes from, draw by draw.

use seedfarm_core::NoiseSource;
use seedfarm_numerics::{philox, torch_cpu, torch_cuda};

use crate::{Error, Result};

/// The noise of one image.
///
/// Seedfarm's own noise has a number for every draw. PyTorch's comes from a generator that goes on from draw to
/// draw, one for each image, as diffusers has it when it is given a list of generators: draws must be taken
/// in the order in which diffusers takes them.
#[derive(Debug, Clone)]
pub(crate) enum NoiseStream {
    /// Philox4x32-10 keyed by the seed.
    Philox {
        /// The image's seed.
        seed: u64,
    },
    /// `torch.Generator("cpu")`.
    TorchCpu(torch_cpu::Generator),
    /// `torch.Generator("cuda")`.
    TorchCuda(torch_cuda::Generator),
}

impl NoiseStream {
    /// The noise of the image with this seed, before the first draw.
    pub fn new(source: NoiseSource, seed: u64) -> Self {
        match source {
            NoiseSource::Philox => Self::Philox { seed },
            NoiseSource::TorchCpu => Self::TorchCpu(torch_cpu::Generator::new(seed)),
            NoiseSource::TorchCuda => Self::TorchCuda(torch_cuda::Generator::new(seed)),
        }
    }

    /// Fills `out` with standard normal numbers: draw `number` of Seedfarm's noise, or PyTorch's next one.
    ///
    /// Errors: a draw of `torch-cuda` that is so long that it depends on the device.
    pub fn draw(&mut self, number: u32, out: &mut [f32]) -> Result<()> {
        match self {
            Self::Philox { seed } => philox::standard_normal(*seed, number, out),
            Self::TorchCpu(generator) => generator.standard_normal(out),
            Self::TorchCuda(generator) => {
                generator.standard_normal(out).map_err(|error| Error::Recipe(error.to_string()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
