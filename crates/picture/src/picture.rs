//! Pixels in memory.

use seedfarm_core::{PixelDigest, limits};

use crate::error::PictureError;

/// Pixels as RGB with 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture of `width` x `height` pixels (1 to [`limits::MAX_SIDE`] a side); `rgb` holds rows from
    /// top to bottom, three bytes a pixel.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, PictureError> {
        check_sides(width, height)?;
        let expected = u64::from(width) * u64::from(height) * 3;
        if rgb.len() as u64 != expected {
            return Err(PictureError::WrongLength { width, height, expected, given: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Width in pixels.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// The pixels: rows from top to bottom, three bytes (RGB) a pixel.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The pixels, given away.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// SHA-256 over width, height and pixels.
    pub fn digest(&self) -> PixelDigest {
        PixelDigest::of_rgb8(self.width, self.height, &self.rgb)
    }
}

/// Holds both sides against the limits, before anything of that size is allocated.
pub(crate) fn check_sides(width: u32, height: u32) -> Result<(), PictureError> {
    let inside = 1..=limits::MAX_SIDE;
    if inside.contains(&width) && inside.contains(&height) {
        return Ok(());
    }
    Err(PictureError::SideOutOfRange { width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_the_wrong_length_is_refused_with_both_lengths() {
        let error = Picture::new(4, 2, vec![0; 23]).unwrap_err().to_string();
        assert!(error.contains("24") && error.contains("23"), "{error}");
    }

    #[test]
    fn a_side_of_nothing_or_over_the_limit_is_refused() {
        assert!(Picture::new(0, 8, Vec::new()).is_err());
        assert!(Picture::new(limits::MAX_SIDE + 1, 1, vec![0; 3 * 4097]).is_err());
    }
}
