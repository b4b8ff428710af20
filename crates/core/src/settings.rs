//! What a request may say about its images besides the prompt.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::ArtifactDigest;
use crate::invalid::Invalid;
use crate::recipe::{PromptSyntax, Variation};
use crate::sampling::{Sampler, SigmaSchedule};

/// Settings that a job gives for all its lines and a line may give for itself; what both leave open
/// comes from the model's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What to avoid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// How prompts are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_syntax: Option<PromptSyntax>,
    /// Width in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Sampling steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Classifier-free guidance scale; 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// Guidance rescale, 0 to 1 (Lin et al. 2023, arXiv:2305.08891, section 3.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f64>,
    /// The sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// How noise levels are chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<SigmaSchedule>,
    /// Share of fresh noise in each step, 0 to 1, of samplers that take some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Layers left out at the end of the text encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<u32>,
    /// LoRAs, merged in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loras: Option<Vec<LoraRequest>>,
    /// Textual inversions by name or digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Vec<String>>,
    /// A second seed that the noise leans towards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation: Option<Variation>,
    /// A picture to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRequest>,
    /// Pictures to follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controls: Option<Vec<ControlRequest>>,
    /// Side of the tiles in which the picture is decoded, in pixels; the whole at once without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_tile: Option<u32>,
}

/// A LoRA that a request names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraRequest {
    /// Its name or digest.
    pub name: String,
    /// How strongly it changes the UNet; 1 is as it was trained.
    #[serde(default = "one")]
    pub weight: f64,
    /// How strongly it changes the text encoders; as the UNet without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_weight: Option<f64>,
}

/// A picture that a request starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRequest {
    /// The picture.
    pub image: PictureRef,
    /// How much is drawn anew, over 0 to 1; without it 0.8, and 1 where there is a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// White is drawn anew, black is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<PictureRef>,
}

/// A picture that a request follows through a ControlNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlRequest {
    /// The ControlNet's name or digest.
    pub name: String,
    /// The picture: edges, depth, a pose, as the ControlNet was trained for.
    pub image: PictureRef,
    /// How strongly; 1 is as it was trained.
    #[serde(default = "one")]
    pub scale: f64,
    /// The share of the steps after which it sets in.
    #[serde(default)]
    pub start: f64,
    /// The share of the steps after which it ends.
    #[serde(default = "one")]
    pub end: f64,
}

fn one() -> f64 {
    1.0
}

/// A picture by the SHA-256 of its file, or by a path on the machine of whoever asks, which must be
/// uploaded before the request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureRef {
    /// A picture that the farm has.
    Digest(ArtifactDigest),
    /// A file that it does not have yet.
    Path(String),
}

impl From<String> for PictureRef {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Path(text), Self::Digest)
    }
}

impl std::fmt::Display for PictureRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Path(path) => f.write_str(path),
        }
    }
}

impl Serialize for PictureRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PictureRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl Settings {
    /// Reads settings from the members of a JSON object.
    ///
    /// Errors: an unknown key or choice, a value of another type.
    pub fn from_json(mut members: serde_json::Map<String, serde_json::Value>) -> Result<Self, Invalid> {
        // By its own reader, which knows other spellings and lists the choices.
        let sampler = match members.remove("sampler") {
            Some(serde_json::Value::String(name)) => Some(Sampler::from_name(&name)?),
            Some(serde_json::Value::Null) | None => None,
            Some(other) => {
                let reason = format!("sampler is {other}: a text is needed");
                return Err(Invalid::NotAPromptLine { reason });
            }
        };
        let settings: Self = serde_json::from_value(serde_json::Value::Object(members))
            .map_err(|error| Invalid::NotAPromptLine { reason: error.to_string() })?;
        Ok(Self { sampler, ..settings })
    }

    /// Every picture that the settings name, to be exchanged for its digest.
    pub fn pictures_mut(&mut self) -> impl Iterator<Item = &mut PictureRef> {
        let source = self.source.iter_mut().flat_map(|source| {
            let SourceRequest { image, mask, .. } = source;
            std::iter::once(image).chain(mask)
        });
        source.chain(self.controls.iter_mut().flatten().map(|control| &mut control.image))
    }

    /// Every picture that the settings name.
    pub fn pictures(&self) -> impl Iterator<Item = &PictureRef> {
        let source = self.source.iter().flat_map(|source| std::iter::once(&source.image).chain(&source.mask));
        source.chain(self.controls.iter().flatten().map(|control| &control.image))
    }
}
