//! What might move pixels besides the recipe: the program, the machine and its libraries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{FingerprintDigest, NumericClass};
use crate::recipe::Numerics;

/// How and on what an image was rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// The engine's revision: it grows with every change that moves a digest.
    pub engine_revision: u32,
    /// `cpu` or `cuda`.
    pub backend: String,
    /// The instruction set or compute capability, such as `x86_64+avx2+fma` or `sm_90`.
    pub architecture: String,
    /// The type in which the network computes, such as `f32`.
    pub precision: String,
    /// Libraries that compute, by name, with their versions.
    pub libraries: BTreeMap<String, String>,
    /// The device's own name; it does not enter the numeric class.
    pub device_name: String,
}

impl Fingerprint {
    /// The digest of all of it.
    pub fn digest(&self) -> FingerprintDigest {
        FingerprintDigest::of_json(self)
    }

    /// The numeric class: images of one recipe rendered within one class have the same bits.
    ///
    /// Strict numerics fix every operation, so only the engine's revision matters; in fast numerics
    /// backend, architecture, precision and libraries do.
    pub fn numeric_class(&self) -> NumericClass {
        match self.numerics {
            Numerics::Strict => NumericClass::of_json(&serde_json::json!({
                "engine_revision": self.engine_revision,
                "numerics": self.numerics,
            })),
            Numerics::Fast => NumericClass::of_json(&serde_json::json!({
                "architecture": self.architecture,
                "backend": self.backend,
                "engine_revision": self.engine_revision,
                "libraries": self.libraries,
                "numerics": self.numerics,
                "precision": self.precision,
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(numerics: Numerics, backend: &str, device_name: &str) -> Fingerprint {
        Fingerprint {
            numerics,
            engine_revision: 1,
            backend: backend.into(),
            architecture: "any".into(),
            precision: "f32".into(),
            libraries: BTreeMap::new(),
            device_name: device_name.into(),
        }
    }

    #[test]
    fn strict_numerics_are_one_class_on_every_machine() {
        let class = on(Numerics::Strict, "cpu", "a").numeric_class();
        assert_eq!(class, on(Numerics::Strict, "cuda", "b").numeric_class());
        assert_ne!(class, on(Numerics::Fast, "cpu", "a").numeric_class());
    }

    #[test]
    fn fast_numerics_are_a_class_for_each_backend_whatever_the_device_is_called() {
        let class = on(Numerics::Fast, "cuda", "a").numeric_class();
        assert_eq!(class, on(Numerics::Fast, "cuda", "b").numeric_class());
        assert_ne!(class, on(Numerics::Fast, "cpu", "a").numeric_class());
    }
}
