//! The recipe: all that should fix the pixels of one image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::digest::{
    AdapterDigest, ArtifactDigest, ComponentDigest, ModelDigest, RecipeDigest, TemplateDigest,
};
use crate::invalid::{Invalid, check_text};
use crate::limits;
use crate::sampling::{NoiseSchedule, Sampler};
use crate::seed;

mod digester;
mod extras;
mod parts;

pub use digester::RecipeDigester;
pub use extras::Extras;
pub(crate) use extras::{check_clip_skip, check_decode_tile};
pub use parts::{Control, Lora, Source, Variation};
pub(crate) use parts::{check_count, check_share, check_weight};

/// The version of the recipe's form that this program writes and reads.
pub const RECIPE_VERSION: u32 = 1;

/// The class of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numerics {
    /// Every operation in an order that the specification fixes: the same bits everywhere.
    #[default]
    Strict,
    /// The device's own fastest kernels: the same bits within a numeric class.
    Fast,
}

impl Numerics {
    /// Both classes.
    pub const ALL: [Self; 2] = [Self::Strict, Self::Fast];

    /// The class's name in recipes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Fast => "fast",
        }
    }

    /// The class called `name`.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        crate::sampling::choice("numerics", name, &Self::ALL, Self::as_str)
    }
}

/// Where the initial noise and the noise of ancestral steps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSource {
    /// Philox4x32-10 keyed by the seed, Box-Muller in f64; see docs/DETERMINISM.md.
    #[default]
    Philox,
    /// `torch.randn` on the CPU, one generator an image.
    TorchCpu,
    /// `torch.randn` on a CUDA device, one generator an image, but for its last bits.
    TorchCuda,
}

impl NoiseSource {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Philox, Self::TorchCpu, Self::TorchCuda];

    /// The source's name in recipes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Philox => "philox",
            Self::TorchCpu => "torch-cpu",
            Self::TorchCuda => "torch-cuda",
        }
    }

    /// The source called `name`.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        crate::sampling::choice("noise", name, &Self::ALL, Self::as_str)
    }
}

/// How the prompt's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptSyntax {
    /// Every character stands for itself.
    #[default]
    Plain,
    /// Brackets weigh words and long texts go in chunks, as in A1111-style tools; see docs/DETERMINISM.md.
    Weighted,
}

impl PromptSyntax {
    /// Both syntaxes.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Weighted];

    /// The syntax's name in recipes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Weighted => "weighted",
        }
    }

    /// The syntax called `name`.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        crate::sampling::choice("prompt_syntax", name, &Self::ALL, Self::as_str)
    }
}

/// A recipe without its seed: what the images of one prompt line share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeTemplate {
    /// [`RECIPE_VERSION`].
    pub version: u32,
    /// The model's components by name (`unet`, `vae`, `text_encoder`, `tokenizer`) with their digests.
    pub model: BTreeMap<String, ComponentDigest>,
    /// What to draw.
    pub prompt: String,
    /// What to avoid; empty for nothing.
    pub negative_prompt: String,
    /// How prompts are read.
    pub prompt_syntax: PromptSyntax,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The sampler.
    pub sampler: Sampler,
    /// The noise schedule in force.
    pub noise_schedule: NoiseSchedule,
    /// The resolved timesteps, from the noisiest to the cleanest; one for each step.
    pub timesteps: Vec<f64>,
    /// Classifier-free guidance scale; 1 is off.
    pub guidance: f64,
    /// Where noise comes from.
    pub noise: NoiseSource,
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// What most images do without.
    #[serde(flatten)]
    pub extras: Extras,
}

impl RecipeTemplate {
    /// SHA-256 of the canonical JSON.
    pub fn digest(&self) -> TemplateDigest {
        TemplateDigest::of_json(self)
    }

    /// The digest of the model that the components make up.
    pub fn model_digest(&self) -> ModelDigest {
        ModelDigest::of_json(&self.model)
    }

    /// The recipe of the image with this seed.
    pub fn with_seed(self, seed: u64) -> Recipe {
        Recipe { template: self, seed }
    }

    /// The adapters that it needs, each once, in ascending order.
    pub fn adapters(&self) -> Vec<AdapterDigest> {
        let extras = &self.extras;
        let loras = extras.loras.iter().map(|lora| lora.digest);
        let controls = extras.controls.iter().map(|control| control.model);
        let mut adapters: Vec<_> = loras.chain(controls).chain(extras.embeddings.values().copied()).collect();
        adapters.sort_unstable();
        adapters.dedup();
        adapters
    }

    /// The pictures that it starts from or follows, each once, in ascending order.
    pub fn pictures(&self) -> Vec<ArtifactDigest> {
        let source = self.extras.source.iter();
        let source = source.flat_map(|source| std::iter::once(source.image).chain(source.mask));
        let mut pictures: Vec<_> =
            source.chain(self.extras.controls.iter().map(|control| control.image)).collect();
        pictures.sort_unstable();
        pictures.dedup();
        pictures
    }

    /// Number of sampling steps.
    pub fn steps(&self) -> u32 {
        u32::try_from(self.timesteps.len()).expect("a recipe is checked to hold at most 1000 timesteps")
    }

    /// Reads a template from JSON, refusing fields that this version does not know.
    pub fn from_json(text: &str) -> Result<Self, Invalid> {
        let template: Self = read_whole(text)?;
        template.check()?;
        Ok(template)
    }

    /// Holds every value against its limit, so that a recipe from a stranger's file is as safe as a
    /// planned one.
    fn check(&self) -> Result<(), Invalid> {
        if self.version != RECIPE_VERSION {
            let reason = format!("it has version {}, and {RECIPE_VERSION} is known", self.version);
            return Err(Invalid::NotARecipe { reason });
        }
        check_text("prompt", &self.prompt, limits::MAX_PROMPT_BYTES)?;
        check_text("negative_prompt", &self.negative_prompt, limits::MAX_PROMPT_BYTES)?;
        check_side("width", self.width, limits::MAX_SIDE)?;
        check_side("height", self.height, limits::MAX_SIDE)?;
        check_guidance(self.guidance)?;
        self.check_timesteps()?;
        self.extras.check(self.timesteps.len())
    }

    fn check_timesteps(&self) -> Result<(), Invalid> {
        let train_steps = self.noise_schedule.train_steps;
        if train_steps == 0 || train_steps > 100_000 {
            let reason = format!("train_steps {train_steps} is outside 1 to 100000");
            return Err(Invalid::NotARecipe { reason });
        }
        check_steps(self.timesteps.len())?;
        let inside = |t: &f64| (0.0..f64::from(train_steps)).contains(t);
        match self.timesteps.iter().find(|t| !inside(t)) {
            None => Ok(()),
            Some(t) => Err(Invalid::NotARecipe {
                reason: format!("timestep {t} is outside 0 to {}", train_steps - 1),
            }),
        }
    }
}

/// All that should fix the pixels of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Everything but the seed.
    #[serde(flatten)]
    pub template: RecipeTemplate,
    /// The image's seed.
    #[serde(with = "seed::as_text")]
    pub seed: u64,
}

impl Recipe {
    /// The canonical JSON (RFC 8785; the seed is a string).
    pub fn canonical(&self) -> String {
        canonical::to_string(self)
    }

    /// SHA-256 of the canonical JSON.
    pub fn digest(&self) -> RecipeDigest {
        RecipeDigest::of_bytes(self.canonical().as_bytes())
    }

    /// Reads a recipe from JSON, refusing fields that this version does not know: dropping one would
    /// render another image under the same name.
    pub fn from_json(text: &str) -> Result<Self, Invalid> {
        let recipe: Self = read_whole(text)?;
        recipe.template.check()?;
        Ok(recipe)
    }
}

/// Parses JSON and makes sure that writing it again loses nothing.
fn read_whole<T: Serialize + serde::de::DeserializeOwned>(text: &str) -> Result<T, Invalid> {
    let not_a_recipe = |error: serde_json::Error| Invalid::NotARecipe { reason: error.to_string() };
    let value: serde_json::Value = serde_json::from_str(text).map_err(not_a_recipe)?;
    let parsed: T = serde_json::from_value(value.clone()).map_err(not_a_recipe)?;
    if canonical::to_string(&parsed) == canonical::to_string(&value) {
        return Ok(parsed);
    }
    Err(Invalid::NotARecipe {
        reason: format!("it does not survive being read and written{}", unknown_keys(&parsed, &value)),
    })
}

fn unknown_keys<T: Serialize>(parsed: &T, value: &serde_json::Value) -> String {
    let known = serde_json::to_value(parsed).unwrap_or_default();
    let extra: Vec<&str> = value
        .as_object()
        .into_iter()
        .flat_map(|object| object.keys())
        .filter(|key| known.get(key.as_str()).is_none())
        .map(String::as_str)
        .collect();
    if extra.is_empty() { String::new() } else { format!("; unknown: {}", extra.join(", ")) }
}

pub(crate) fn check_side(field: &'static str, given: u32, most: u32) -> Result<(), Invalid> {
    if (limits::MIN_SIDE..=most).contains(&given) {
        return Ok(());
    }
    Err(Invalid::SideOutOfRange { field, given, least: limits::MIN_SIDE, most })
}

pub(crate) fn check_guidance(given: f64) -> Result<(), Invalid> {
    if (limits::MIN_GUIDANCE..=limits::MAX_GUIDANCE).contains(&given) {
        return Ok(());
    }
    Err(Invalid::GuidanceOutOfRange { given: given.to_string() })
}

pub(crate) fn check_steps(given: usize) -> Result<(), Invalid> {
    let steps = u32::try_from(given).unwrap_or(u32::MAX);
    if (1..=limits::MAX_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(Invalid::StepsOutOfRange { given: steps, most: limits::MAX_STEPS })
}

#[cfg(test)]
mod tests;
