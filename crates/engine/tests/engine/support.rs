//! What the engine's tests share: the built-in model, recipes for it, and comparisons.

use std::path::PathBuf;

use seedfarm_core::recipe::RECIPE_VERSION;
use seedfarm_core::{ModelManifest, NoiseSource, Numerics, PromptSyntax, Recipe, RecipeTemplate, Sampler};

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the built-in model.
pub fn emoji_starter() -> PathBuf {
    repository().join("models/emoji-starter")
}

/// A recipe with the model's own defaults.
pub fn recipe(manifest: &ModelManifest, numerics: Numerics, prompt: &str, seed: u64) -> Recipe {
    let defaults = &manifest.defaults;
    let template = RecipeTemplate {
        version: RECIPE_VERSION,
        model: manifest.components.clone(),
        prompt: prompt.to_owned(),
        negative_prompt: String::new(),
        prompt_syntax: PromptSyntax::Plain,
        width: defaults.width,
        height: defaults.height,
        sampler: defaults.sampler,
        noise_schedule: manifest.noise_schedule.clone(),
        timesteps: Vec::new(),
        guidance: defaults.guidance,
        noise: NoiseSource::Philox,
        numerics,
    };
    sampled(template.with_seed(seed), defaults.sampler, defaults.steps)
}

/// The same recipe with another sampler and number of steps.
pub fn sampled(mut recipe: Recipe, sampler: Sampler, steps: u32) -> Recipe {
    let template = &mut recipe.template;
    template.sampler = sampler;
    template.timesteps = template.noise_schedule.timesteps(sampler, steps).expect("steps are in range");
    recipe
}

/// The folder of one of the two random models.
pub fn tiny(name: &str) -> PathBuf {
    repository().join("tests/parity/models").join(name)
}
