//! Pictures that images start from: read as other tools read them, within the same limits.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use png::{BitDepth, ColorType};
use seedfarm_picture::{PictureError, decode, decode_source};

/// From Pillow (tests/golden/make.py); digests as in `files.rs`.
const GOLDEN: [(&str, &[u8], &str); 4] = [
    (
        "transparent",
        include_bytes!("golden/transparent.png"),
        "c9fc7447b5006fbffb25d6493d5240d0e993fe36b419ef4e35e6a3718775fa03",
    ),
    (
        "one bit",
        include_bytes!("golden/one_bit.png"),
        "6527b40f233fade7d5ededad99123018a8747f773ac71d370afc88e75684b261",
    ),
    (
        "palette",
        include_bytes!("golden/comfyui_packed.png"),
        "22ee4eecc47594ec6efea17e17632e2641b153bc7c744c31e8bae5405a81d170",
    ),
    (
        "grey",
        include_bytes!("golden/grey.png"),
        "c367b1bc4fa0a2f23666a9a6ad67058298730dbe84a2e34a4dec5eb7a430a999",
    ),
];

#[test]
fn sources_are_what_pillow_converts_to_rgb() {
    for (name, file, digest) in GOLDEN {
        assert_eq!(decode_source(file).unwrap().digest().to_string(), digest, "{name}");
    }
}

/// A file of two pixels side by side.
fn two_pixels(
    color: ColorType,
    depth: BitDepth,
    data: &[u8],
    change: impl FnOnce(&mut png::Encoder<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    change(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn every_kind_and_depth_becomes_rgb_of_8_bits() {
    type Case = (ColorType, BitDepth, &'static [u8], [u8; 6]);
    let cases: [Case; 9] = [
        (ColorType::Grayscale, BitDepth::One, &[0b1000_0000], [255, 255, 255, 0, 0, 0]),
        (ColorType::Grayscale, BitDepth::Two, &[0b0110_0000], [85, 85, 85, 170, 170, 170]),
        (ColorType::Grayscale, BitDepth::Four, &[0x1f], [17, 17, 17, 255, 255, 255]),
        (
            ColorType::Grayscale,
            BitDepth::Sixteen,
            &[0x12, 0xff, 0x80, 0],
            [0x12, 0x12, 0x12, 0x80, 0x80, 0x80],
        ),
        (ColorType::GrayscaleAlpha, BitDepth::Eight, &[9, 0, 8, 255], [9, 9, 9, 8, 8, 8]),
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen, &[9, 1, 0, 0, 8, 1, 2, 2], [9, 9, 9, 8, 8, 8]),
        (ColorType::Rgb, BitDepth::Sixteen, &[1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9], [1, 2, 3, 4, 5, 6]),
        (ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 0, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6]),
        (
            ColorType::Rgba,
            BitDepth::Sixteen,
            &[1, 9, 2, 9, 3, 9, 0, 0, 4, 9, 5, 9, 6, 9, 255, 255],
            [1, 2, 3, 4, 5, 6],
        ),
    ];
    for (color, depth, data, rgb) in cases {
        let file = two_pixels(color, depth, data, |_| {});
        assert_eq!(decode_source(&file).unwrap().rgb(), rgb, "{color:?} {depth:?}");
    }
    let palette = two_pixels(ColorType::Indexed, BitDepth::Two, &[0b0100_0000], |encoder| {
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
        encoder.set_trns(vec![255, 0]);
    });
    assert_eq!(decode_source(&palette).unwrap().rgb(), [4, 5, 6, 1, 2, 3]);
}

#[test]
fn what_a_rendered_file_may_not_be_is_still_refused_there() {
    let deep = two_pixels(ColorType::Rgb, BitDepth::Sixteen, &[0; 12], |_| {});
    assert!(matches!(decode(&deep), Err(PictureError::NotRgb8 { .. })));
    assert!(decode_source(&deep).is_ok());
}

#[test]
fn giant_cut_off_and_foreign_files_are_refused() {
    let file = two_pixels(ColorType::Rgb, BitDepth::Eight, &[7; 6], |_| {});
    for length in 0..file.len() {
        assert!(decode_source(&file[..length]).is_err(), "{length} bytes");
    }
    let mut giant = Vec::new();
    drop(png::Encoder::new(&mut giant, 100_000, 100_000).write_header().unwrap());
    assert!(matches!(decode_source(&giant), Err(PictureError::SideOutOfRange { .. })));
    assert!(matches!(decode_source(b"\xff\xd8\xff\xe0 a JPEG"), Err(PictureError::NotPng)));
}
