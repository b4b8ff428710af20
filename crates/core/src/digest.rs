//! SHA-256 digests, one type for each thing that is digested, so that they cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::canonical;

/// The text is not a SHA-256 digest in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a SHA-256 digest: 64 hexadecimal digits are needed")]
pub struct InvalidDigest(pub String);

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes that are already a digest.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Takes a digest out of a byte slice; the error names the slice in hexadecimal.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidDigest> {
                bytes.try_into().map(Self).map_err(|_| InvalidDigest(hex::encode(bytes)))
            }

            /// The digest of `bytes`.
            pub fn of_bytes(bytes: &[u8]) -> Self {
                Self(sha256(bytes))
            }

            /// The digest of the canonical JSON of `value`.
            pub fn of_json<T: Serialize>(value: &T) -> Self {
                Self(sha256(canonical::to_string(value).as_bytes()))
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first ten hexadecimal digits, for tables and file names.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..5])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;
            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                let bytes = hex::decode(text).map_err(|_| InvalidDigest(text.to_owned()))?;
                bytes.try_into().map(Self).map_err(|_| InvalidDigest(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest!(
    /// A LoRA, a textual inversion (the file) or a ControlNet (as a component of a model).
    AdapterDigest
);
digest!(
    /// One image's stored bytes (the PNG file), the key under which they lie in the blob store.
    ArtifactDigest
);
digest!(
    /// One part of a model: the canonical JSON of its file names and their SHA-256.
    ComponentDigest
);
digest!(
    /// The bytes of one file of a model or an adapter that the farm distributes.
    FileDigest
);
digest!(
    /// A model or an adapter that the farm distributes: the model's own digest, or the adapter's.
    PackageDigest
);
digest!(
    /// How an image was rendered: the canonical JSON of a fingerprint.
    FingerprintDigest
);
digest!(
    /// A whole model: the canonical JSON of its component names and their digests.
    ModelDigest
);
digest!(
    /// A group of machines and programs that give the same bits: the canonical JSON of a fingerprint's
    /// arithmetic.
    NumericClass
);
digest!(
    /// Pixels: width and height as little-endian `u32`, then raw RGB8.
    PixelDigest
);
digest!(
    /// A recipe: its canonical JSON.
    RecipeDigest
);
digest!(
    /// A recipe without its seed: its canonical JSON.
    TemplateDigest
);

impl From<ModelDigest> for PackageDigest {
    fn from(digest: ModelDigest) -> Self {
        Self(digest.0)
    }
}

impl From<AdapterDigest> for PackageDigest {
    fn from(digest: AdapterDigest) -> Self {
        Self(digest.0)
    }
}

impl PixelDigest {
    /// Digests an image of `width` x `height` pixels, rows top to bottom, three bytes (RGB) a pixel.
    pub fn of_rgb8(width: u32, height: u32, rgb: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(width.to_le_bytes());
        hasher.update(height.to_le_bytes());
        hasher.update(rgb);
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_meets_the_fips_180_vector() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ArtifactDigest::of_bytes(b"abc").to_string(), expected);
        assert_eq!(expected.parse::<ArtifactDigest>().unwrap(), ArtifactDigest::of_bytes(b"abc"));
    }

    #[test]
    fn a_pixel_digest_tells_a_wide_image_from_a_tall_one() {
        assert_ne!(PixelDigest::of_rgb8(2, 1, &[0; 6]), PixelDigest::of_rgb8(1, 2, &[0; 6]));
    }

    #[test]
    fn a_text_that_is_no_digest_is_named_in_the_error() {
        let error = "xyz".parse::<RecipeDigest>().unwrap_err();
        assert!(error.to_string().contains("'xyz'"));
    }
}
