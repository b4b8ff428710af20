//! The devices that this build can render on.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use seedfarm_core::Numerics;
use seedfarm_numerics::{Isa, NumericsError};

use crate::{Error, Result};

/// One device, as a caller asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceSpec {
    /// The processor, with its own number of render threads.
    #[default]
    Cpu,
    /// A CUDA device by its ordinal; needs a build with the feature `cuda`.
    Cuda(usize),
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    /// Reads `cpu`, `cuda` (the first) or `cuda:N`.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::Device {
            name: text.to_owned(),
            reason: "known devices are cpu, cuda and cuda:N".to_owned(),
        };
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) => ordinal.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl DeviceSpec {
    /// Opens the device for a class of arithmetic.
    ///
    /// Errors: [`Error::NumericsOnDevice`], [`Error::Device`].
    pub(crate) fn open(self, numerics: Numerics) -> Result<Device> {
        match self {
            Self::Cpu => self.open_cpu(numerics),
            Self::Cuda(_) if numerics == Numerics::Strict => Err(Error::NumericsOnDevice { numerics }),
            Self::Cuda(ordinal) => Device::new_cuda(ordinal)
                .map_err(|error| Error::Device { name: self.to_string(), reason: error.to_string() }),
        }
    }

    /// Strict numerics would be right without fused multiply-adds, and a hundred times slower.
    fn open_cpu(self, numerics: Numerics) -> Result<Device> {
        let fault =
            |error: NumericsError| Error::Device { name: self.to_string(), reason: error.to_string() };
        if numerics == Numerics::Strict {
            Isa::require_fused().map_err(fault)?;
        }
        Ok(Device::Cpu)
    }
}

/// A device that can be rendered on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// How to ask for it.
    pub spec: DeviceSpec,
    /// What it calls itself, such as `AMD EPYC 9B45`.
    pub name: String,
    /// The classes of arithmetic that it can render in.
    pub numerics: Vec<Numerics>,
}

/// Every device of this machine that this build can render on: the processor, and the CUDA devices in a
/// build with the feature `cuda`.
pub fn devices() -> Vec<DeviceInfo> {
    let spec = DeviceSpec::Cpu;
    // Without fused multiply-adds there are fast numerics alone.
    let numerics = Numerics::ALL.into_iter().filter(|&class| spec.open(class).is_ok()).collect();
    let mut found = vec![DeviceInfo { spec, name: cpu_name(), numerics }];
    found.extend(cuda_devices());
    found
}

/// CUDA numbers its devices from 0 without a gap, so the first that cannot be opened ends the list.
#[cfg(feature = "cuda")]
fn cuda_devices() -> Vec<DeviceInfo> {
    (0..)
        .map(DeviceSpec::Cuda)
        .take_while(|spec| spec.open(Numerics::Fast).is_ok())
        .map(|spec| DeviceInfo { spec, name: spec.to_string(), numerics: vec![Numerics::Fast] })
        .collect()
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Vec<DeviceInfo> {
    Vec::new()
}

/// The processor's name, where the system tells it.
pub(crate) fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_reads_back_as_it_prints() {
        for spec in [DeviceSpec::Cpu, DeviceSpec::Cuda(0), DeviceSpec::Cuda(3)] {
            assert_eq!(spec.to_string().parse::<DeviceSpec>().unwrap(), spec);
        }
    }

    #[test]
    fn an_unknown_device_is_refused_with_the_known_ones() {
        for text in ["gpu", "cuda:", "cuda:x", "cpu:1", ""] {
            let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{error}");
        }
    }

    #[test]
    fn the_processor_is_always_there_and_does_strict_numerics() {
        let devices = devices();
        assert_eq!(devices[0].spec, DeviceSpec::Cpu);
        assert!(devices[0].numerics.contains(&Numerics::Strict));
    }
}
