//! Seeds: 64 bits, kept whole, and a function of the job's seed and the image's index alone.

use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::invalid::Invalid;

/// Opens the message that derived seeds are digests of.
const DERIVED_DOMAIN: &[u8] = b"seedfarm/seed/v1";

/// How the seed of each image of a job follows from the job's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedPolicy {
    /// The job's seed plus the image's index, modulo 2^64, as other tools count.
    #[default]
    Sequential,
    /// The first eight bytes (little endian) of SHA-256 over a domain tag, the job's seed and the index:
    /// jobs with neighbouring seeds share no image.
    Derived,
    /// The job's seed for every image: prompts are compared on the same noise.
    Fixed,
    /// The line's own seed; with a count over 1, plus the repeat's number, modulo 2^64.
    Explicit,
}

impl SeedPolicy {
    /// Every policy, in the order in which help texts list them.
    pub const ALL: [Self; 4] = [Self::Sequential, Self::Derived, Self::Fixed, Self::Explicit];

    /// The policy's name, as written in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Derived => "derived",
            Self::Fixed => "fixed",
            Self::Explicit => "explicit",
        }
    }

    /// The policy called `name`.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        crate::sampling::choice("seed policy", name, &Self::ALL, |policy| policy.as_str())
    }

    /// The seed of one image.
    ///
    /// `index` is the image's index in the job; `repeat` counts the images of one prompt line from 0;
    /// `line_seed` is the line's own seed, which admission guarantees under [`SeedPolicy::Explicit`].
    pub fn seed_of(self, job_seed: u64, index: u64, repeat: u64, line_seed: Option<u64>) -> u64 {
        match self {
            Self::Sequential => job_seed.wrapping_add(index),
            Self::Derived => derived(job_seed, index),
            Self::Fixed => job_seed,
            Self::Explicit => line_seed.unwrap_or(job_seed).wrapping_add(repeat),
        }
    }
}

fn derived(job_seed: u64, index: u64) -> u64 {
    let mut message = DERIVED_DOMAIN.to_vec();
    message.extend_from_slice(&job_seed.to_le_bytes());
    message.extend_from_slice(&index.to_le_bytes());
    let [a, b, c, d, e, f, g, h, ..] = sha256(&message);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Parses a seed from text; the error names the text and the range.
pub fn parse_seed(text: &str) -> Result<u64, Invalid> {
    text.trim().parse().map_err(|_| Invalid::SeedOutOfRange { given: text.to_owned() })
}

/// Seeds in JSON: written as strings, because a JSON number loses bits past 2^53; read from both.
pub mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the seed as a string of decimal digits.
    pub fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(seed)
    }

    /// Reads a string of decimal digits or a whole number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        from_value(&serde_json::Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }

    pub(crate) fn from_value(value: &serde_json::Value) -> Result<u64, crate::Invalid> {
        let out_of_range = || crate::Invalid::SeedOutOfRange { given: value.to_string() };
        match value {
            serde_json::Value::String(text) => super::parse_seed(text),
            serde_json::Value::Number(number) => number.as_u64().ok_or_else(out_of_range),
            _ => Err(out_of_range()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with: python3 -c "import hashlib,struct; print([int.from_bytes(hashlib.sha256(b'seedfarm/seed/v1'
    /// +struct.pack('<QQ',s,i)).digest()[:8],'little') for s,i in [(0,0),(42,0),(42,1),(2**64-1,9999999)]])"
    const DERIVED: [(u64, u64, u64); 4] = [
        (0, 0, 12_980_801_837_234_186_775),
        (42, 0, 3_065_324_251_144_146_063),
        (42, 1, 3_881_092_756_181_671_556),
        (u64::MAX, 9_999_999, 14_250_010_084_689_397_103),
    ];

    #[test]
    fn derived_seeds_meet_the_vectors_made_with_python() {
        for (job_seed, index, expected) in DERIVED {
            assert_eq!(SeedPolicy::Derived.seed_of(job_seed, index, 0, None), expected);
        }
    }

    #[test]
    fn sequential_seeds_wrap_at_the_end_of_64_bits() {
        assert_eq!(SeedPolicy::Sequential.seed_of(u64::MAX, 1, 0, None), 0);
        assert_eq!(SeedPolicy::Explicit.seed_of(7, 5, 2, Some(u64::MAX)), 1);
        assert_eq!(SeedPolicy::Fixed.seed_of(7, 5, 2, None), 7);
    }

    #[test]
    fn a_seed_past_64_bits_is_refused_with_its_value() {
        let error = parse_seed("18446744073709551616").unwrap_err();
        assert!(error.to_string().contains("18446744073709551616"));
        assert!(parse_seed("-1").is_err());
        assert_eq!(parse_seed("18446744073709551615").unwrap(), u64::MAX);
    }
}
