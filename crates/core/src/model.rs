//! What the farm knows of a model without its weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{ComponentDigest, ModelDigest};
use crate::sampling::{NoiseSchedule, Sampler};

/// Settings that a request leaves open are filled from here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDefaults {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Sampling steps.
    pub steps: u32,
    /// Classifier-free guidance scale.
    pub guidance: f64,
    /// The sampler.
    pub sampler: Sampler,
}

/// One model: what it is made of, and what a request to it may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// The name under which people ask for it, such as `emoji-starter`.
    pub name: String,
    /// The architecture family, such as `stable-diffusion`.
    pub family: String,
    /// Components by name (`unet`, `vae`, `text_encoder`, `tokenizer`) with their digests.
    pub components: BTreeMap<String, ComponentDigest>,
    /// The noise schedule of its scheduler configuration.
    pub noise_schedule: NoiseSchedule,
    /// What requests leave open.
    pub defaults: ModelDefaults,
    /// Width and height must be multiples of this, in pixels.
    pub size_multiple: u32,
    /// Largest width and height, in pixels.
    pub max_side: u32,
    /// Whether its UNet takes a mask and the masked picture beside the latents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inpainting: bool,
    /// Bytes of all weights on disk.
    pub weights_bytes: u64,
    /// The licence, as its model card says; absent when nobody said.
    pub licence: Option<String>,
}

impl ModelManifest {
    /// The digest of the whole model: of its components, whatever its name.
    pub fn digest(&self) -> ModelDigest {
        ModelDigest::of_json(&self.components)
    }
}
