//! Pictures that recipes start from or follow, by the digests of their files.

use std::collections::BTreeMap;
use std::sync::Arc;

use seedfarm_core::ArtifactDigest;

use crate::{Error, Result};

/// One picture, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Arc<[u8]>,
}

impl Picture {
    /// A picture of rows from top to bottom, three bytes (red, green, blue) a pixel.
    ///
    /// Errors: bytes that are not `3 * width * height`.
    pub fn new(width: u32, height: u32, rgb: impl Into<Arc<[u8]>>) -> Result<Self> {
        let rgb = rgb.into();
        if rgb.len() as u64 != 3 * u64::from(width) * u64::from(height) {
            return Err(Error::Recipe(format!(
                "a picture of {width}x{height} pixels does not have {} bytes",
                rgb.len()
            )));
        }
        Ok(Self { width, height, rgb })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Planes of red, green and blue, each value `of` its byte.
    pub(super) fn planes(&self, of: impl Fn(u8) -> f32) -> Vec<f32> {
        (0..3).flat_map(|channel| self.rgb[channel..].iter().step_by(3).map(|byte| of(*byte))).collect()
    }

    /// One value a pixel, 0 to 255: the luma of ITU-R BT.601 in the whole numbers that Pillow computes.
    pub(super) fn luma(&self) -> impl Iterator<Item = u8> + '_ {
        self.rgb.chunks_exact(3).map(|pixel| {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
            // 19595, 38470 and 7471 are 0.299, 0.587 and 0.114 in 65536ths; Pillow adds a half.
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        })
    }
}

/// Pictures by the SHA-256 of their files.
#[derive(Debug, Clone, Default)]
pub struct Pictures(BTreeMap<ArtifactDigest, Picture>);

impl Pictures {
    /// Adds a picture under the digest of its file.
    pub fn insert(&mut self, digest: ArtifactDigest, picture: Picture) {
        self.0.insert(digest, picture);
    }

    /// A picture of exactly `width` x `height` pixels.
    ///
    /// Errors: a digest that is not there; another size.
    pub(super) fn get(
        &self,
        field: &str,
        digest: ArtifactDigest,
        width: u32,
        height: u32,
    ) -> Result<&Picture> {
        let picture = self
            .0
            .get(&digest)
            .ok_or_else(|| Error::Recipe(format!("the {field} {digest} was not given to the engine")))?;
        if (picture.width, picture.height) == (width, height) {
            return Ok(picture);
        }
        Err(Error::Recipe(format!(
            "the {field} {digest} is {}x{} pixels, but the image is {width}x{height}",
            picture.width, picture.height
        )))
    }
}

impl FromIterator<(ArtifactDigest, Picture)> for Pictures {
    fn from_iter<I: IntoIterator<Item = (ArtifactDigest, Picture)>>(pictures: I) -> Self {
        Self(pictures.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_and_luma_are_taken_from_interleaved_bytes() {
        let picture = Picture::new(2, 1, vec![255, 0, 0, 10, 20, 30]).unwrap();
        assert_eq!(picture.planes(f32::from), [255.0, 10.0, 0.0, 20.0, 0.0, 30.0]);
        // Pillow: Image.new("RGB", (1, 1), (255, 0, 0)).convert("L") is 76, (10, 20, 30) is 18.
        assert_eq!(picture.luma().collect::<Vec<_>>(), [76, 18]);
    }

    #[test]
    fn a_picture_of_another_size_is_refused_with_both_sizes() {
        let digest = ArtifactDigest::of_bytes(b"file");
        let pictures: Pictures = [(digest, Picture::new(2, 1, vec![0; 6]).unwrap())].into_iter().collect();
        let error = pictures.get("mask", digest, 8, 8).unwrap_err().to_string();
        assert!(error.contains("2x1") && error.contains("8x8"), "{error}");
        assert!(Picture::new(2, 1, vec![0; 5]).is_err());
    }
}
