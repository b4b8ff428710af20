//! Bringing a picture to the size of an image.

use anyhow::Result;
use image::imageops::{self, FilterType};
use seedfarm_core::ArtifactDigest;
use seedfarm_core::plan::PictureSize;
use seedfarm_picture::{Picture, encode_plain};

use super::read::Loaded;
use crate::failure::Failure;

/// A PNG file that a farm takes, of the size that is wanted.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The file.
    pub png: Vec<u8>,
    /// Its sides.
    pub size: PictureSize,
    /// What was done to get there, for people; absent where the file is as it was.
    pub note: Option<String>,
}

impl Prepared {
    /// SHA-256 of the file.
    pub fn digest(&self) -> ArtifactDigest {
        ArtifactDigest::of_bytes(&self.png)
    }
}

impl Loaded {
    /// Its sides.
    pub fn size(&self) -> PictureSize {
        PictureSize { width: self.pixels.width(), height: self.pixels.height() }
    }

    /// As it is: the file itself, or its pixels as a PNG.
    ///
    /// # Errors
    /// Sides over the limit of what a farm takes.
    pub fn prepare(self) -> Result<Prepared> {
        let (size, note) = (self.size(), (!self.changes.is_empty()).then(|| self.changes.join(", ")));
        let png = match self.file {
            Some(file) => file,
            None => encode_plain(&Picture::new(size.width, size.height, self.pixels.into_raw())?)?,
        };
        Ok(Prepared { png, size, note })
    }

    /// At `wanted` size: cut to its proportions around the middle, and scaled with `filter`.
    ///
    /// # Errors
    /// Sides over the limit of what a farm takes.
    pub fn fit(&self, wanted: PictureSize, filter: FilterType) -> Result<Prepared> {
        if self.size() == wanted {
            return self.clone().prepare();
        }
        let (x, y, width, height) = middle(self.size(), wanted);
        let cut = imageops::crop_imm(&self.pixels, x, y, width, height);
        let scaled = imageops::resize(&*cut, wanted.width, wanted.height, filter);
        let mut changes = self.changes.clone();
        if (width, height) != self.pixels.dimensions() {
            changes.push(format!("cut to {width}x{height} around the middle"));
        }
        if (width, height) != (wanted.width, wanted.height) {
            changes.push(format!("scaled to {wanted}"));
        }
        let png = encode_plain(&Picture::new(wanted.width, wanted.height, scaled.into_raw())?)?;
        Ok(Prepared { png, size: wanted, note: Some(format!("{}: {}", self.size(), changes.join(", "))) })
    }

    /// The refusal of a picture that must stay as large as it is.
    pub(super) fn refuse(&self, wanted: PictureSize) -> Failure {
        let message = format!(
            "it is {} pixels and the image {wanted}: bring it to that size, or leave --no-resize out",
            self.size()
        );
        Failure::usage("PICTURE_SIZE", message)
    }
}

/// The largest part around the middle of `given` that has the proportions of `wanted`: left, top, width
/// and height.
fn middle(given: PictureSize, wanted: PictureSize) -> (u32, u32, u32, u32) {
    let (w, h) = (u64::from(given.width), u64::from(given.height));
    let (to_w, to_h) = (u64::from(wanted.width), u64::from(wanted.height));
    let rounded = |a: u64, b: u64| (a + b / 2) / b;
    let (width, height) = if w * to_h > h * to_w {
        (rounded(h * to_w, to_h).clamp(1, w), h)
    } else {
        (w, rounded(w * to_h, to_w).clamp(1, h))
    };
    let small = |side: u64| u32::try_from(side).expect("a part of a picture is no larger than the picture");
    (small((w - width) / 2), small((h - height) / 2), small(width), small(height))
}

/// The size of an image that follows a picture of `given` size: scaled down to `max_side` where it is
/// larger, and each side rounded down to a multiple of `multiple`.
pub(super) fn following(given: PictureSize, multiple: u32, max_side: u32) -> PictureSize {
    let (multiple, longest) = (u64::from(multiple.max(1)), u64::from(given.width.max(given.height)));
    let most = u64::from(max_side).min(longest).max(1);
    let side = |side: u32| {
        let scaled = u64::from(side) * most / longest.max(1);
        u32::try_from((scaled / multiple * multiple).max(multiple)).unwrap_or(max_side)
    };
    PictureSize { width: side(given.width), height: side(given.height) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    fn size(width: u32, height: u32) -> PictureSize {
        PictureSize { width, height }
    }

    #[test]
    fn an_image_follows_its_source_rounded_down_and_within_the_models_limit() {
        assert_eq!(following(size(1000, 700), 8, 2048), size(1000, 696));
        assert_eq!(following(size(4000, 3000), 64, 1024), size(1024, 768));
        assert_eq!(following(size(4000, 10), 8, 1024), size(1024, 8));
        assert_eq!(following(size(64, 64), 8, 512), size(64, 64));
    }

    #[test]
    fn the_middle_keeps_the_proportions_that_are_wanted() {
        assert_eq!(middle(size(200, 100), size(50, 50)), (50, 0, 100, 100));
        assert_eq!(middle(size(100, 200), size(64, 32)), (0, 75, 100, 50));
        assert_eq!(middle(size(64, 48), size(32, 24)), (0, 0, 64, 48));
    }

    #[test]
    fn a_mask_keeps_its_edges_and_what_was_done_is_told() {
        let mut pixels = RgbImage::from_pixel(40, 20, Rgb([0; 3]));
        (20..40).for_each(|x| (0..20).for_each(|y| pixels.put_pixel(x, y, Rgb([255; 3]))));
        let loaded = Loaded { pixels, file: None, changes: Vec::new() };
        let prepared = loaded.fit(size(8, 8), FilterType::Nearest).unwrap();
        assert_eq!(prepared.note.as_deref(), Some("40x20: cut to 20x20 around the middle, scaled to 8x8"));
        let picture = seedfarm_picture::decode(&prepared.png).unwrap();
        assert!(picture.rgb().iter().all(|&value| value == 0 || value == 255));
        assert_eq!((picture.rgb()[0], picture.rgb()[3 * 7]), (0, 255));
    }
}
