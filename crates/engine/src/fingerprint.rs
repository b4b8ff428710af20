//! What might move pixels besides the recipe: the fingerprint of this program on a device.

use std::collections::BTreeMap;
use std::fs;

use seedfarm_core::{Fingerprint, Numerics};

use crate::device::{DeviceSpec, cpu_name};
use crate::render::PADDED_BATCH;

/// Grows by one with every change that moves a pixel of any recipe, in either class of arithmetic.
pub const ENGINE_REVISION: u32 = 1;

/// The version of candle, whose kernels fast numerics use.
const CANDLE: &str = "0.11.1";
/// The version of gemm, candle's matrix products on the CPU.
const GEMM: &str = "0.19.0";

/// The fingerprint of renderings on `device` in `numerics` by this program on this machine.
pub fn fingerprint(device: &DeviceSpec, numerics: Numerics) -> Fingerprint {
    let (backend, architecture, device_name) = match device {
        DeviceSpec::Cpu => ("cpu", cpu_architecture(numerics), cpu_name()),
        DeviceSpec::Cuda(_) => ("cuda", format!("cuda+batch{PADDED_BATCH}"), device.to_string()),
    };
    Fingerprint {
        numerics,
        engine_revision: ENGINE_REVISION,
        backend: backend.to_owned(),
        architecture,
        precision: "f32".to_owned(),
        libraries: libraries(numerics),
        device_name,
    }
}

/// Strict numerics compute with nothing but `seedfarm-numerics`, whose bits the engine's revision covers.
fn libraries(numerics: Numerics) -> BTreeMap<String, String> {
    match numerics {
        Numerics::Strict => BTreeMap::new(),
        Numerics::Fast => [("candle", CANDLE.to_owned()), ("gemm", GEMM.to_owned()), ("libm", system_libm())]
            .map(|(name, version)| (name.to_owned(), version))
            .into(),
    }
}

/// The instruction set; in fast numerics also the first-level data cache, from whose size and ways gemm
/// takes the length of its partial sums.
fn cpu_architecture(numerics: Numerics) -> String {
    let isa = seedfarm_numerics::Isa::active();
    match numerics {
        Numerics::Strict => format!("{}+{isa}", std::env::consts::ARCH),
        Numerics::Fast => format!("{}+{}+{}", std::env::consts::ARCH, vector_unit(), first_level_cache()),
    }
}

#[cfg(target_arch = "x86_64")]
fn vector_unit() -> &'static str {
    let wide = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    if wide { "avx2+fma" } else { "sse2" }
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_unit() -> &'static str {
    "baseline"
}

fn first_level_cache() -> String {
    let read = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index0/{name}");
        fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    format!("l1d-{}-{}-{}", read("size"), read("ways_of_associativity"), read("shared_cpu_list"))
}

/// The C library, whose exp and tanh candle calls.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn system_libm() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libm.so"));
    let digest = path
        .and_then(|path| fs::read(path).ok())
        .map(|bytes| seedfarm_core::ArtifactDigest::of_bytes(&bytes));
    digest.map_or_else(|| "unknown".to_owned(), |digest| format!("glibc-{}", digest.short()))
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn system_libm() -> String {
    std::env::consts::OS.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_named_are_the_ones_that_are_linked() {
        let lock = include_str!("../../../Cargo.lock");
        for (name, version) in [("candle-core", CANDLE), ("candle-nn", CANDLE), ("gemm", GEMM)] {
            assert!(
                lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")),
                "{name} {version}"
            );
        }
    }

    #[test]
    fn strict_numerics_are_one_class_and_fast_numerics_another() {
        let strict = fingerprint(&DeviceSpec::Cpu, Numerics::Strict);
        let fast = fingerprint(&DeviceSpec::Cpu, Numerics::Fast);
        assert_ne!(strict.numeric_class(), fast.numeric_class());
        assert!(strict.libraries.is_empty());
        assert!(fast.libraries.contains_key("gemm"));
    }
}
