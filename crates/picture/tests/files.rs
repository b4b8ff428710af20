//! Whole picture files: written and read back, other programs' files, and hostile ones.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use seedfarm_core::{Fingerprint, Numerics, Recipe};
use seedfarm_picture::{
    Caption, Check, Metadata, Picture, PictureError, decode, encode, encode_plain, infotext, read_metadata,
};

fn recipe(prompt: &str) -> Recipe {
    let json = include_str!("../../core/src/recipe/golden_recipe.json");
    let mut recipe = Recipe::from_json(json).unwrap();
    recipe.template.prompt = prompt.into();
    recipe
}

fn fingerprint() -> Fingerprint {
    Fingerprint {
        numerics: Numerics::Strict,
        engine_revision: 1,
        backend: "cpu".into(),
        architecture: "x86_64+avx2+fma".into(),
        precision: "f32".into(),
        libraries: [("candle-core".to_owned(), "0.11.1".to_owned())].into(),
        device_name: "a café's CPU".into(),
    }
}

fn picture() -> Picture {
    let rgb = (0..12u32 * 7 * 3).map(|i| (i * 37 % 251) as u8).collect();
    Picture::new(12, 7, rgb).unwrap()
}

fn file(prompt: &str) -> Vec<u8> {
    let (recipe, fingerprint) = (recipe(prompt), fingerprint());
    let caption =
        Caption { recipe: &recipe, model_name: "emoji-starter", fingerprint: &fingerprint, version: "0.1.0" };
    encode(&picture(), &caption).unwrap()
}

fn chain(error: &PictureError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

#[test]
fn a_file_says_how_it_was_made_and_that_nobody_touched_it() {
    for prompt in ["a red apple", "un café,\n\"rouge\"", "りんご 🍎"] {
        let file = file(prompt);
        assert_eq!(decode(&file).unwrap(), picture());
        let metadata = read_metadata(&file).unwrap();
        let expected = Metadata {
            width: 12,
            height: 7,
            pixel_digest: Some(picture().digest()),
            pixels: Check::Matches,
            recipe_json: Some(recipe(prompt).canonical()),
            recipe: Some(Ok(recipe(prompt))),
            recipe_digest: Some(recipe(prompt).digest()),
            recipe_check: Check::Matches,
            fingerprint: Some(fingerprint()),
            model: Some("emoji-starter".into()),
            parameters: Some(infotext(&recipe(prompt), "emoji-starter", "0.1.0")),
            other: Default::default(),
        };
        assert_eq!(metadata, expected);
    }
}

#[test]
fn the_same_picture_and_caption_give_the_same_bytes() {
    assert_eq!(file("a red apple"), file("a red apple"));
}

/// Writes the texts of `file` over other pixels, as an editor that keeps metadata does.
fn with_texts_of(file: &[u8], picture: &Picture, change: impl Fn(&str, String) -> String) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    reader.finish().unwrap();
    let mut edited = Vec::new();
    let mut encoder = png::Encoder::new(&mut edited, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    for text in &reader.info().uncompressed_latin1_text {
        encoder.add_itxt_chunk(text.keyword.clone(), change(&text.keyword, text.text.clone())).unwrap();
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(picture.rgb()).unwrap();
    writer.finish().unwrap();
    edited
}

#[test]
fn pixels_edited_later_are_told_apart() {
    let mut rgb = picture().into_rgb();
    rgb[100] ^= 1;
    let edited = Picture::new(12, 7, rgb).unwrap();
    let metadata = read_metadata(&with_texts_of(&file("a"), &edited, |_, text| text)).unwrap();
    assert_eq!(metadata.pixels, Check::Differs { claimed: picture().digest().to_string() });
    assert_eq!(metadata.recipe_check, Check::Matches);
}

#[test]
fn a_recipe_edited_later_is_told_apart() {
    let change = |_: &str, text: String| text.replace("\"seed\":\"42\"", "\"seed\":\"43\"");
    let metadata = read_metadata(&with_texts_of(&file("a"), &picture(), change)).unwrap();
    assert_eq!(metadata.recipe_check, Check::Differs { claimed: recipe("a").digest().to_string() });
    assert_eq!(metadata.recipe.unwrap().unwrap().seed, 43);
    assert_eq!(metadata.pixels, Check::Matches);
}

#[test]
fn a_recipe_of_a_later_version_keeps_its_text_and_says_why_it_cannot_be_read() {
    let change = |_: &str, text: String| text.replace("\"version\":1", "\"version\":2");
    let metadata = read_metadata(&with_texts_of(&file("a"), &picture(), change)).unwrap();
    let reason = metadata.recipe.unwrap().unwrap_err().to_string();
    assert!(reason.contains("version 2"), "{reason}");
    assert!(metadata.recipe_json.unwrap().contains("\"version\":2"));
}

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let file = file("a red apple");
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x20;
        if let Ok(metadata) = read_metadata(&damaged) {
            assert!(at >= file.len() - 12, "byte {at} of {}", file.len());
            assert_eq!(metadata.pixels, Check::Matches);
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let file = file("a red apple");
    for length in 0..file.len() - 12 {
        let error = read_metadata(&file[..length]).unwrap_err();
        assert!(matches!(error, PictureError::Damaged(_) | PictureError::NotPng), "{length}: {error}");
        assert!(decode(&file[..length]).is_err());
    }
}

#[test]
fn something_else_than_a_png_is_called_so() {
    let error = decode(b"GIF89a and more").unwrap_err();
    assert!(error.to_string().contains("not a PNG"), "{error}");
}

#[test]
fn a_header_that_claims_giant_sides_is_refused_before_anything_is_allocated() {
    let mut header = Vec::new();
    let mut encoder = png::Encoder::new(&mut header, 0x7fff_ffff, 0x7fff_ffff);
    encoder.set_color(png::ColorType::Rgba);
    drop(encoder.write_header().unwrap());
    let error = decode(&header).unwrap_err();
    assert!(matches!(error, PictureError::SideOutOfRange { .. }), "{}", chain(&error));
    assert!(error.to_string().contains("2147483647") && error.to_string().contains("4096"), "{error}");
}

fn with_texts(write: impl FnOnce(&mut png::Encoder<'_, &mut Vec<u8>>)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 12, 7);
    encoder.set_color(png::ColorType::Rgb);
    write(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(picture().rgb()).unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn a_zip_bomb_in_a_text_is_refused() {
    let bomb = "a".repeat(64 << 20);
    let file = with_texts(|encoder| encoder.add_ztxt_chunk("seedfarm.recipe".into(), bomb).unwrap());
    assert!(file.len() < 400_000, "{}", file.len());
    let error = read_metadata(&file).unwrap_err();
    assert!(matches!(error, PictureError::PackedText { .. }), "{}", chain(&error));
    assert_eq!(decode(&file).unwrap(), picture());
}

#[test]
fn many_texts_are_held_against_one_limit() {
    let file = with_texts(|encoder| {
        (0..5).for_each(|i| encoder.add_ztxt_chunk(format!("text {i}"), "b".repeat(1 << 20)).unwrap());
    });
    assert!(matches!(read_metadata(&file), Err(PictureError::PackedText { .. })));
    let file = with_texts(|encoder| encoder.add_text_chunk("text".into(), "b".repeat(9 << 20)).unwrap());
    let error = read_metadata(&file).unwrap_err();
    assert!(matches!(error, PictureError::TextTooLarge { .. }), "{}", chain(&error));
}

#[test]
fn a_file_with_two_recipes_is_refused() {
    let file = with_texts(|encoder| {
        encoder.add_text_chunk("seedfarm.recipe".into(), "{}".into()).unwrap();
        encoder.add_itxt_chunk("seedfarm.recipe".into(), "{}".into()).unwrap();
    });
    let error = read_metadata(&file).unwrap_err();
    assert!(error.to_string().contains("'seedfarm.recipe' twice"), "{error}");
}

#[test]
fn a_plain_file_claims_nothing() {
    let metadata = read_metadata(&encode_plain(&picture()).unwrap()).unwrap();
    assert_eq!((metadata.pixels, metadata.recipe_check), (Check::Absent, Check::Absent));
    assert_eq!(metadata.recipe, None);
}

#[test]
fn transparent_pixels_are_not_compared_but_the_texts_are_read() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    encoder.set_color(png::ColorType::Rgba);
    encoder.add_text_chunk("parameters".into(), "a".into()).unwrap();
    encoder.add_text_chunk("seedfarm.pixel_digest".into(), "00".into()).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[1, 2, 3, 128]).unwrap();
    writer.finish().unwrap();
    let metadata = read_metadata(&file).unwrap();
    assert_eq!((metadata.pixel_digest, metadata.pixels), (None, Check::Unknown));
    assert_eq!(metadata.parameters.as_deref(), Some("a"));
    assert!(decode(&file).unwrap_err().to_string().contains("transparent"));
}

/// The files come from Pillow (tests/golden/make.py), and so do the digests:
/// `hashlib.sha256(struct.pack("<II", *image.size) + image.convert("RGB").tobytes())`.
const GOLDEN: [(&str, &[u8], &str); 4] = [
    (
        "RGB",
        include_bytes!("golden/a1111.png"),
        "c9fc7447b5006fbffb25d6493d5240d0e993fe36b419ef4e35e6a3718775fa03",
    ),
    (
        "RGBA",
        include_bytes!("golden/a1111_unicode.png"),
        "c9fc7447b5006fbffb25d6493d5240d0e993fe36b419ef4e35e6a3718775fa03",
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
fn pixels_of_pillows_files_are_those_that_pillow_sees() {
    for (mode, file, digest) in GOLDEN {
        let metadata = read_metadata(file).unwrap();
        assert_eq!(metadata.pixel_digest.unwrap().to_string(), digest, "{mode}");
        assert_eq!(metadata.pixels, Check::Absent, "{mode}");
    }
}

#[test]
fn texts_that_other_programs_wrote_are_shown() {
    let [latin, unicode, comfy, _] = GOLDEN.map(|(_, file, _)| read_metadata(file).unwrap());
    let latin = latin.parameters.unwrap();
    assert!(latin.starts_with("a café, photo\nNegative prompt: blurry, (dark:1.2)\nSteps: 20"), "{latin}");
    assert!(unicode.parameters.unwrap().starts_with("りんご 🍎\nSteps: 20, Sampler: Euler a"));
    assert_eq!(comfy.other["prompt"], r#"{"3": {"class_type": "KSampler"}}"#);
    assert_eq!(comfy.other["workflow"], "{}");
}

#[test]
fn a_palette_that_ends_within_a_colour_is_refused() {
    for bytes in [4, 5, 550, 767] {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 1, 1);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(vec![7; bytes]);
        let mut writer = encoder.write_header().expect("the encoder does not look");
        writer.write_image_data(&[0]).expect("one pixel");
        writer.finish().expect("it ends");
        for error in [decode(&file).unwrap_err(), read_metadata(&file).unwrap_err()] {
            assert!(error.to_string().contains(&format!("{bytes} bytes")), "{error}");
        }
    }
}
