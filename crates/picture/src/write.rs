//! Writing PNG files.

use png::text_metadata::{ITXtChunk, TEXtChunk};
use seedfarm_core::{Fingerprint, Recipe, canonical};

use crate::error::PictureError;
use crate::infotext::infotext;
use crate::keyword;
use crate::picture::Picture;

/// What a picture file says of its picture.
#[derive(Debug, Clone, Copy)]
pub struct Caption<'a> {
    /// All that fixed the pixels.
    pub recipe: &'a Recipe,
    /// The model's name, for people; the recipe holds its digests.
    pub model_name: &'a str,
    /// How it was rendered.
    pub fingerprint: &'a Fingerprint,
    /// Seedfarm's version.
    pub version: &'a str,
}

/// The picture as a PNG file with its caption inside. The same arguments give the same bytes.
pub fn encode(picture: &Picture, caption: &Caption<'_>) -> Result<Vec<u8>, PictureError> {
    let recipe = caption.recipe.canonical();
    let texts = [
        (keyword::PARAMETERS, infotext(caption.recipe, caption.model_name, caption.version)),
        (keyword::RECIPE_DIGEST, caption.recipe.digest().to_string()),
        (keyword::RECIPE, recipe),
        (keyword::PIXEL_DIGEST, picture.digest().to_string()),
        (keyword::FINGERPRINT, canonical::to_string(caption.fingerprint)),
        (keyword::MODEL, caption.model_name.to_owned()),
    ];
    write(picture, &texts)
}

/// The picture as a PNG file that says nothing of itself: previews and contact sheets.
pub fn encode_plain(picture: &Picture) -> Result<Vec<u8>, PictureError> {
    write(picture, &[])
}

fn write(picture: &Picture, texts: &[(&str, String)]) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::with_capacity(picture.rgb().len() / 2 + 4096);
    let mut encoder = png::Encoder::new(&mut file, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Measured at 1024 x 1024: 12 ms against 1.1 s for the default, in 4 % more bytes.
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    for (keyword, text) in texts {
        if is_latin1(text) {
            writer.write_text_chunk(&TEXtChunk::new(*keyword, text.as_str()))?;
        } else {
            writer.write_text_chunk(&ITXtChunk::new(*keyword, text.as_str()))?;
        }
    }
    writer.write_image_data(picture.rgb())?;
    writer.finish()?;
    Ok(file)
}

/// Whether a `tEXt` chunk can hold the text; else it is an `iTXt` chunk.
fn is_latin1(text: &str) -> bool {
    text.chars().all(|character| u32::from(character) < 256)
}
