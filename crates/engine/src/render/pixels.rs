//! Pixels, and how they come from the decoder's numbers.

use seedfarm_core::PixelDigest;

/// One rendered image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Rows from top to bottom, three bytes (red, green, blue) a pixel.
    pub rgb: Vec<u8>,
    /// What the person who asked should know, such as the part of the prompt that was not read.
    pub warnings: Vec<String>,
}

impl Rendered {
    /// The digest by which pixels are compared.
    pub fn pixel_digest(&self) -> PixelDigest {
        PixelDigest::of_rgb8(self.width, self.height, &self.rgb)
    }
}

/// Decoder output, planes of red, green and blue with values about -1 to 1, as interleaved bytes.
///
/// `x / 2 + 1/2`, cut to 0 to 1, times 255, rounded half to even: what diffusers' `VaeImageProcessor` does.
pub(super) fn interleave(planes: &[f32]) -> Vec<u8> {
    let pixels = planes.len() / 3;
    let byte = |value: f32| ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    (0..pixels).flat_map(|pixel| (0..3).map(move |plane| byte(planes[plane * pixels + pixel]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_interleaved_bytes_cut_to_their_range() {
        let planes = [-1.0, 1.0, 0.0, 2.0, -3.0, 0.5];
        assert_eq!(interleave(&planes), [0, 128, 0, 255, 255, 191]);
    }

    // 100.5, 126.5 and 127.5, computed in numpy.
    #[test]
    fn a_value_halfway_between_two_bytes_goes_to_the_even_one() {
        assert_eq!(interleave(&[-0.211_764_66, -0.007_843_107, 0.0]), [100, 126, 128]);
    }
}
