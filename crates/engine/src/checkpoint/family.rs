//! Which architecture a checkpoint is, by the names and shapes of its tensors.

use crate::source::{Family, Part};
use crate::weights::SafetensorsFile;
use crate::{Error, Result};

/// Where the names of the UNet begin.
pub(super) const UNET: &str = "model.diffusion_model.";
/// The same for the text encoder of Stable Diffusion 1.
pub(super) const CLIP: &str = "cond_stage_model.transformer.";
/// The same for the text encoder of Stable Diffusion 2.
pub(super) const OPEN_CLIP: &str = "cond_stage_model.model.";
/// The same for the first text encoder of Stable Diffusion XL.
pub(super) const XL_CLIP: &str = "conditioner.embedders.0.transformer.";
/// The same for the second one.
pub(super) const XL_OPEN_CLIP: &str = "conditioner.embedders.1.model.";
/// The first one of the refiner, which has no other.
const REFINER: &str = "conditioner.embedders.0.model.";
/// What the VAE's names begin with, in older and newer files.
pub(super) const VAES: [&str; 2] = ["first_stage_model.", "vae."];

/// Stable Diffusion 1, 2 or XL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    V1,
    V2,
    Xl,
}

impl Kind {
    pub const fn family(self) -> Family {
        match self {
            Self::V1 | Self::V2 => Family::StableDiffusion,
            Self::Xl => Family::StableDiffusionXl,
        }
    }

    /// The token that fills a window. OpenCLIP's encoders were trained with the id 0, which is `!`.
    pub const fn padding(self, tokenizer: Part) -> &'static str {
        match (self, tokenizer) {
            (Self::V2, _) | (Self::Xl, Part::Tokenizer2) => "!",
            _ => "<|endoftext|>",
        }
    }
}

/// Other architectures, by the start of a name that only they have.
const OTHERS: [(&str, &str); 8] = [
    ("double_blocks.", "FLUX"),
    ("model.diffusion_model.double_blocks.", "FLUX"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("lora_", "a LoRA"),
    ("control_model.", "a ControlNet"),
    ("edm_mean", "Playground 2.5"),
    ("down_blocks.", "one part of a model of diffusers, which keeps its parts in folders"),
];

/// Tells the architecture.
///
/// Errors: a file that is not a whole checkpoint of Stable Diffusion 1, 2 or XL, with what it seems to be.
pub(super) fn tell(file: &SafetensorsFile) -> Result<Kind> {
    let has = |prefix: &str| file.keys().any(|key| key.starts_with(prefix));
    if let Some((_, other)) = OTHERS.iter().find(|(prefix, _)| has(prefix)) {
        return Err(refusal(file, &format!("is {other}")));
    }
    if !has(UNET) {
        return Err(refusal(file, &format!("holds no tensor '{UNET}*'")));
    }
    if !VAES.iter().any(|prefix| has(prefix)) {
        return Err(refusal(file, &format!("holds no VAE ('{}*')", VAES[0])));
    }
    let kinds = [(XL_OPEN_CLIP, Kind::Xl), (OPEN_CLIP, Kind::V2), (CLIP, Kind::V1)];
    match kinds.iter().find(|(prefix, _)| has(prefix)) {
        Some((_, kind)) => Ok(*kind),
        None if has(REFINER) => Err(refusal(file, "is the refiner of Stable Diffusion XL")),
        None => Err(refusal(file, "holds no text encoder that is known")),
    }
}

fn refusal(file: &SafetensorsFile, reason: &str) -> Error {
    let reason = format!("{reason}: whole checkpoints of Stable Diffusion 1, 2 and XL are supported");
    Error::Malformed { path: file.path().to_owned(), reason }
}
