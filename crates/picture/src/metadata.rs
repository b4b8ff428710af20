//! What a picture file says of itself, held against what it holds.

use std::collections::BTreeMap;

use seedfarm_core::{Fingerprint, Invalid, PixelDigest, Recipe, RecipeDigest};

use crate::error::PictureError;
use crate::keyword;

/// Whether a digest that the file claims is that of what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The file claims nothing.
    Absent,
    /// It is.
    Matches,
    /// It is not: the file was edited after it was written.
    Differs {
        /// What the file claims; hexadecimal, or whatever stands in its place.
        claimed: String,
    },
    /// It cannot be told, because what it should be held against is not there.
    Unknown,
}

impl Check {
    fn of(claimed: Option<&str>, actual: Option<String>) -> Self {
        match (claimed, actual) {
            (None, _) => Self::Absent,
            (Some(_), None) => Self::Unknown,
            (Some(claimed), Some(actual)) if claimed.eq_ignore_ascii_case(&actual) => Self::Matches,
            (Some(claimed), Some(_)) => Self::Differs { claimed: claimed.to_owned() },
        }
    }
}

/// A picture file's own account of its picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The digest of the pixels that the file holds now; absent where 8-bit RGB cannot hold them.
    pub pixel_digest: Option<PixelDigest>,
    /// Whether the pixels are those that were rendered.
    pub pixels: Check,
    /// The recipe as it stands in the file.
    pub recipe_json: Option<String>,
    /// The recipe, or why this version cannot read it.
    pub recipe: Option<Result<Recipe, Invalid>>,
    /// The digest of the recipe that the file holds.
    pub recipe_digest: Option<RecipeDigest>,
    /// Whether that is the digest that the file claims.
    pub recipe_check: Check,
    /// How the picture was rendered; absent where the file does not say it, or not in a form that this
    /// version reads.
    pub fingerprint: Option<Fingerprint>,
    /// The model's name.
    pub model: Option<String>,
    /// The text that A1111-style tools write and read; other programs' files have it too.
    pub parameters: Option<String>,
    /// Every other text in the file, by keyword.
    pub other: BTreeMap<String, String>,
}

impl Metadata {
    pub(crate) fn new(width: u32, height: u32, pixel_digest: Option<PixelDigest>, texts: Texts) -> Self {
        let mut texts = texts.by_keyword;
        let recipe_json = texts.remove(keyword::RECIPE);
        let recipe = recipe_json.as_deref().map(Recipe::from_json);
        let recipe_digest = match (&recipe, &recipe_json) {
            (Some(Ok(recipe)), _) => Some(recipe.digest()),
            (_, Some(json)) => Some(RecipeDigest::of_bytes(json.as_bytes())),
            _ => None,
        };
        let claimed_recipe = texts.remove(keyword::RECIPE_DIGEST);
        let claimed_pixels = texts.remove(keyword::PIXEL_DIGEST);
        let fingerprint = texts.remove(keyword::FINGERPRINT);
        Self {
            width,
            height,
            pixels: Check::of(claimed_pixels.as_deref(), pixel_digest.map(|digest| digest.to_string())),
            pixel_digest,
            recipe_check: Check::of(
                claimed_recipe.as_deref(),
                recipe_digest.map(|digest| digest.to_string()),
            ),
            recipe_json,
            recipe,
            recipe_digest,
            fingerprint: fingerprint.and_then(|json| serde_json::from_str(&json).ok()),
            model: texts.remove(keyword::MODEL),
            parameters: texts.remove(keyword::PARAMETERS),
            other: texts,
        }
    }
}

/// The texts of a file, within an allowance.
pub(crate) struct Texts {
    by_keyword: BTreeMap<String, String>,
    limit: usize,
    used: usize,
}

impl Texts {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { by_keyword: BTreeMap::new(), limit, used: 0 }
    }

    /// Bytes that may still be unpacked.
    pub(crate) const fn left(&self) -> usize {
        self.limit - self.used
    }

    /// Adds a text. Of a foreign keyword that comes twice the first counts; one of ours must be alone.
    pub(crate) fn add(&mut self, keyword: &str, text: String) -> Result<(), PictureError> {
        if text.len() > self.left() {
            return Err(PictureError::TextTooLarge { limit: self.limit });
        }
        self.used += text.len();
        if !self.by_keyword.contains_key(keyword) {
            self.by_keyword.insert(keyword.to_owned(), text);
            return Ok(());
        }
        if keyword.starts_with("seedfarm.") {
            return Err(PictureError::TextTwice { keyword: keyword.to_owned() });
        }
        Ok(())
    }
}
