//! What most recipes do without, left out of their JSON where it is not used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parts::{Control, Lora, Source, Variation, check_count, check_share, check_weight};
use crate::digest::AdapterDigest;
use crate::invalid::{Invalid, check_text};
use crate::limits;
use crate::sampling::check_levels;

/// The optional members of a recipe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Extras {
    /// The resolved noise levels, one for each timestep and a last one, where they are not a function of
    /// the timesteps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Vec<f64>>,
    /// Share of fresh noise in each step, 0 to 1, where it is not the sampler's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Guidance rescale, 0 to 1; 0 is off (Lin et al. 2023, arXiv:2305.08891, section 3.4).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub guidance_rescale: f64,
    /// Layers left out at the end of the text encoder, as diffusers counts them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub clip_skip: u32,
    /// LoRAs, merged in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<Lora>,
    /// Textual inversions by the word that stands for them in the prompts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub embeddings: BTreeMap<String, AdapterDigest>,
    /// A second seed that the noise leans towards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<Variation>,
    /// A picture to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Pictures to follow; what their ControlNets add is summed in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Control>,
    /// Side of the tiles in which the picture is decoded, in pixels; absent for the whole at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_tile: Option<u32>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

impl Extras {
    /// Holds every value against its limit, for a recipe of `steps` timesteps.
    pub(super) fn check(&self, steps: usize) -> Result<(), Invalid> {
        self.sigmas.as_ref().map_or(Ok(()), |sigmas| check_levels(sigmas, steps))?;
        self.check_numbers()?;
        check_count("loras", self.loras.len(), limits::MAX_LORAS)?;
        for lora in &self.loras {
            check_weight("a LoRA's weight", lora.weight)?;
            check_weight("a LoRA's text_weight", lora.text_weight)?;
        }
        check_count("embeddings", self.embeddings.len(), limits::MAX_EMBEDDINGS)?;
        for trigger in self.embeddings.keys() {
            check_text("an embedding's word", trigger, limits::MAX_NAME_BYTES)?;
        }
        self.check_pictures(steps)
    }

    fn check_numbers(&self) -> Result<(), Invalid> {
        self.eta.map_or(Ok(()), |eta| check_share("eta", eta))?;
        check_share("guidance_rescale", self.guidance_rescale)?;
        check_clip_skip(self.clip_skip)?;
        self.variation.map_or(Ok(()), |variation| check_share("variation strength", variation.strength))?;
        self.decode_tile.map_or(Ok(()), check_decode_tile)
    }

    fn check_pictures(&self, steps: usize) -> Result<(), Invalid> {
        let outside = |field: &str, step: u32, most: usize| {
            if step as usize <= most {
                return Ok(());
            }
            Err(Invalid::NotARecipe { reason: format!("{field} {step} is outside 0 to {most}") })
        };
        if let Some(source) = &self.source {
            check_share("source strength", source.strength)?;
            outside("the source's first_step", source.first_step, steps - 1)?;
        }
        check_count("controls", self.controls.len(), limits::MAX_CONTROLS)?;
        for control in &self.controls {
            check_weight("a control's scale", control.scale)?;
            outside("a control's first_step", control.first_step, steps)?;
            outside("a control's end_step", control.end_step, steps)?;
        }
        Ok(())
    }
}

pub(crate) fn check_clip_skip(given: u32) -> Result<(), Invalid> {
    if given <= limits::MAX_CLIP_SKIP {
        return Ok(());
    }
    let most = f64::from(limits::MAX_CLIP_SKIP);
    Err(Invalid::NumberOutOfRange { field: "clip_skip", given: given.to_string(), least: 0.0, most })
}

pub(crate) fn check_decode_tile(given: u32) -> Result<(), Invalid> {
    if (limits::MIN_DECODE_TILE..=limits::MAX_SIDE).contains(&given) && given.is_multiple_of(8) {
        return Ok(());
    }
    let (least, most) = (f64::from(limits::MIN_DECODE_TILE), f64::from(limits::MAX_SIDE));
    let field = "decode_tile (a multiple of 8)";
    Err(Invalid::NumberOutOfRange { field, given: given.to_string(), least, most })
}
