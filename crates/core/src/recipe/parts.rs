//! Parts of a recipe that most images do without.
//!
//! Each is left out of the JSON where it is not used, so that it moves no digest of a recipe without it.

use serde::{Deserialize, Serialize};

use crate::digest::{AdapterDigest, ArtifactDigest};
use crate::invalid::Invalid;
use crate::limits;
use crate::seed;

/// A LoRA and how strongly it is merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Its file.
    pub digest: AdapterDigest,
    /// The factor of its changes to the UNet.
    pub weight: f64,
    /// The factor of its changes to the text encoders.
    pub text_weight: f64,
}

/// A second seed: the first noise is turned from the seed's towards this one's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    /// The second seed.
    #[serde(with = "seed::as_text")]
    pub seed: u64,
    /// How far, from 0 (the seed's own noise) to 1 (the second seed's).
    pub strength: f64,
}

/// A picture that the image starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A PNG file of the image's size.
    pub image: ArtifactDigest,
    /// How much was asked to be drawn anew, over 0 to 1.
    pub strength: f64,
    /// The first timestep (from 0) that is sampled: the resolved form of `strength`.
    pub first_step: u32,
    /// A PNG file of the image's size: white is drawn anew, black is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<ArtifactDigest>,
}

/// A picture that the image follows, and the ControlNet that makes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The ControlNet.
    pub model: AdapterDigest,
    /// A PNG file of the image's size.
    pub image: ArtifactDigest,
    /// The factor of what it adds to the UNet.
    pub scale: f64,
    /// The first step (from 0) at which it acts.
    pub first_step: u32,
    /// The step (from 0) at which it acts no more.
    pub end_step: u32,
}

pub(crate) fn check_share(field: &'static str, given: f64) -> Result<(), Invalid> {
    check_number(field, given, 0.0, 1.0)
}

pub(crate) fn check_weight(field: &'static str, given: f64) -> Result<(), Invalid> {
    check_number(field, given, -limits::MAX_ADAPTER_WEIGHT, limits::MAX_ADAPTER_WEIGHT)
}

fn check_number(field: &'static str, given: f64, least: f64, most: f64) -> Result<(), Invalid> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(Invalid::NumberOutOfRange { field, given: given.to_string(), least, most })
}

pub(crate) fn check_count(field: &'static str, given: usize, most: usize) -> Result<(), Invalid> {
    if given <= most { Ok(()) } else { Err(Invalid::TooManyOf { field, given, most }) }
}
