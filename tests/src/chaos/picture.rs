//! Pictures that follow from a recipe's digest, and the model that such pictures are made with.

use std::collections::BTreeMap;

use anyhow::Result;
use seedfarm_core::model::ModelDefaults;
use seedfarm_core::{
    ArtifactDigest, ComponentDigest, Fingerprint, ModelManifest, NoiseSchedule, Numerics, PixelDigest,
    RecipeDigest, Sampler,
};
use seedfarm_picture::Picture;

/// The model's name.
pub const MODEL: &str = "chaos";
/// Width and height in pixels.
const SIDE: u32 = 8;

/// A picture with its file.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Digest of the pixels.
    pub pixels: PixelDigest,
    /// Digest of the file.
    pub artifact: ArtifactDigest,
    /// A PNG file.
    pub file: Vec<u8>,
}

/// The picture of a recipe: its digest, over and over.
///
/// # Errors
/// If it cannot be encoded.
pub fn of(recipe: &RecipeDigest) -> Result<Drawn> {
    let digest = recipe.as_bytes();
    let bytes = (SIDE * SIDE * 3) as usize;
    let rgb = (0..bytes).map(|at| digest[at % digest.len()] ^ (at / digest.len()) as u8).collect();
    let picture = Picture::new(SIDE, SIDE, rgb)?;
    let file = seedfarm_picture::encode_plain(&picture)?;
    Ok(Drawn { pixels: picture.digest(), artifact: ArtifactDigest::of_bytes(&file), file })
}

/// What the farm is told of the model: there are no weights behind it.
pub fn manifest() -> ModelManifest {
    ModelManifest {
        name: MODEL.to_owned(),
        family: "stable-diffusion".to_owned(),
        components: BTreeMap::from([("unet".to_owned(), ComponentDigest::of_bytes(b"chaos"))]),
        noise_schedule: NoiseSchedule::default(),
        defaults: ModelDefaults {
            width: SIDE,
            height: SIDE,
            steps: 4,
            guidance: 1.0,
            sampler: Sampler::Ddim,
        },
        size_multiple: SIDE,
        max_side: SIDE,
        inpainting: false,
        weights_bytes: 0,
        licence: None,
    }
}

/// How the pictures are made.
pub fn fingerprint() -> Fingerprint {
    Fingerprint {
        numerics: Numerics::Strict,
        engine_revision: 1,
        backend: "cpu".to_owned(),
        architecture: "none".to_owned(),
        precision: "u8".to_owned(),
        libraries: BTreeMap::new(),
        device_name: "chaos".to_owned(),
    }
}
