//! Reading picture files: PNG, JPEG and WebP, as RGB with 8 bits a channel.

use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use seedfarm_core::limits::MAX_ARTIFACT_BYTES;

use crate::failure::Failure;

/// Largest side of a picture that is read, in pixels: what cameras give.
const MAX_SIDE: u32 = 20_000;
/// Most bytes that reading one picture may take.
const MAX_MEMORY: u64 = 2 << 30;
/// Formats that are read.
const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];

/// A picture in memory.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its pixels.
    pub pixels: RgbImage,
    /// The file itself, where a farm takes it as it is.
    pub file: Option<Vec<u8>>,
    /// What was done to the file's pixels, for people.
    pub changes: Vec<String>,
}

/// Reads a picture file.
///
/// Its EXIF orientation is applied, 16 bits a channel, palettes and greys become RGB with 8, and what is
/// transparent is laid over white.
///
/// # Errors
/// A file that cannot be read, is larger than the limits, or is no PNG, JPEG or WebP.
pub fn read(path: &Path) -> Result<Loaded> {
    let bytes = read_bytes(path)?;
    decode(bytes).with_context(|| format!("the picture {} cannot be used", path.display()))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(MAX_ARTIFACT_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Failure::usage("NO_PICTURE", format!("the picture {} cannot be read: {error}", path.display()))
    })?;
    if bytes.len() > MAX_ARTIFACT_BYTES {
        let message = format!("{} is larger than the limit of {MAX_ARTIFACT_BYTES} bytes", path.display());
        return Err(Failure::usage("PICTURE_TOO_LARGE", message).into());
    }
    Ok(bytes)
}

fn decode(bytes: Vec<u8>) -> Result<Loaded> {
    let format = image::guess_format(&bytes).ok().filter(|format| FORMATS.contains(format));
    let format = format.ok_or_else(|| {
        Failure::usage("NOT_A_PICTURE", "it is no PNG, JPEG or WebP: save it as one of them")
    })?;
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let upright = orientation == Orientation::NoTransforms;
    if upright && format == ImageFormat::Png && seedfarm_picture::decode(&bytes).is_ok() {
        return Ok(Loaded { pixels: image.into_rgb8(), file: Some(bytes), changes: Vec::new() });
    }
    Ok(reduce(image, orientation))
}

/// The same in plain RGB, with what that changes.
fn reduce(mut image: DynamicImage, orientation: Orientation) -> Loaded {
    let mut changes = Vec::new();
    if orientation != Orientation::NoTransforms {
        image.apply_orientation(orientation);
        changes.push("turned by its EXIF orientation".to_owned());
    }
    let color = image.color();
    if color.bytes_per_pixel() / color.channel_count() > 1 {
        changes.push("reduced to 8 bits a channel".to_owned());
    }
    if !color.has_alpha() {
        return Loaded { pixels: image.into_rgb8(), file: None, changes };
    }
    let (pixels, any) = over_white(image);
    if any {
        changes.push("laid over white where it was transparent".to_owned());
    }
    Loaded { pixels, file: None, changes }
}

/// Lays a picture over white; says whether anything of it was transparent.
fn over_white(image: DynamicImage) -> (RgbImage, bool) {
    let rgba = image.into_rgba8();
    let any = rgba.pixels().any(|pixel| pixel.0[3] != u8::MAX);
    let lay = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, alpha] = from.0;
        to.0 = [lay(r, alpha), lay(g, alpha), lay(b, alpha)];
    }
    (rgb, any)
}

fn damaged(error: image::ImageError) -> anyhow::Error {
    match error {
        image::ImageError::Limits(_) => {
            let message = format!("it has more than {MAX_SIDE} pixels a side, or needs too much memory");
            Failure::usage("PICTURE_TOO_LARGE", message).into()
        }
        error => {
            let message = format!("it is damaged, or breaks its format: {error}");
            Failure::usage("NOT_A_PICTURE", message).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Luma, Rgb, Rgba};

    fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_plain_png_stays_the_file_that_it_is() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(3, 2, Rgb([1, 2, 3])));
        let bytes = file(&image, ImageFormat::Png);
        let loaded = decode(bytes.clone()).unwrap();
        assert_eq!((loaded.file, loaded.changes), (Some(bytes), Vec::new()));
        assert_eq!(loaded.pixels.get_pixel(2, 1), &Rgb([1, 2, 3]));
    }

    #[test]
    fn transparent_pixels_are_laid_over_white_and_deep_ones_reduced_and_both_is_told() {
        let clear = image::RgbaImage::from_pixel(1, 1, Rgba([0, 0, 0, 127]));
        let loaded = decode(file(&DynamicImage::ImageRgba8(clear), ImageFormat::Png)).unwrap();
        assert_eq!(loaded.pixels.get_pixel(0, 0), &Rgb([128, 128, 128]));
        assert_eq!(loaded.changes, ["laid over white where it was transparent"]);
        let deep = image::ImageBuffer::<Luma<u16>, _>::from_pixel(1, 1, Luma([0x8080]));
        let loaded = decode(file(&DynamicImage::ImageLuma16(deep), ImageFormat::Png)).unwrap();
        assert_eq!(loaded.pixels.get_pixel(0, 0), &Rgb([128, 128, 128]));
        assert_eq!((loaded.changes, loaded.file), (vec!["reduced to 8 bits a channel".to_owned()], None));
    }

    #[test]
    fn webp_and_jpeg_are_read_and_what_is_none_is_refused_with_the_formats() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, Rgb([200, 100, 50])));
        let webp = decode(file(&image, ImageFormat::WebP)).unwrap();
        assert_eq!(webp.pixels.get_pixel(7, 7), &Rgb([200, 100, 50]));
        let jpeg = decode(file(&image, ImageFormat::Jpeg)).unwrap();
        assert!(jpeg.pixels.get_pixel(3, 3).0[0].abs_diff(200) < 4);
        for wrong in [b"a text".to_vec(), b"GIF89a\x01\x00\x01\x00\x00\x00\x00".to_vec(), Vec::new()] {
            let error = decode(wrong).unwrap_err().to_string();
            assert!(error.contains("PNG, JPEG or WebP"), "{error}");
        }
    }

    #[test]
    fn a_sideways_jpeg_is_turned_upright() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 8, Rgb([9, 9, 9])));
        let jpeg = file(&image, ImageFormat::Jpeg);
        // An APP1 segment with one entry: Orientation (0x0112), SHORT, 1, value 6 (turn right).
        let tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut exif = b"\xff\xe1".to_vec();
        exif.extend(u16::try_from(2 + 6 + tiff.len()).unwrap().to_be_bytes());
        exif.extend(b"Exif\0\0");
        exif.extend(tiff);
        let turned = [&jpeg[..2], &exif, &jpeg[2..]].concat();
        let loaded = decode(turned).unwrap();
        assert_eq!(loaded.pixels.dimensions(), (8, 16));
        assert_eq!(loaded.changes, ["turned by its EXIF orientation"]);
    }

    #[test]
    fn a_header_that_asks_for_more_than_the_limit_is_refused_before_anything_is_allocated() {
        let image = DynamicImage::ImageRgb8(RgbImage::new(1, 1));
        let mut bytes = file(&image, ImageFormat::Png);
        bytes[16..20].copy_from_slice(&100_000u32.to_be_bytes());
        assert!(decode(bytes).is_err());
        let mut cut = file(&DynamicImage::ImageRgb8(RgbImage::new(64, 64)), ImageFormat::Jpeg);
        cut.truncate(30);
        assert!(decode(cut).is_err());
    }
}
