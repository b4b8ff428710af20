//! What the engine's tests share: the built-in model, recipes for it, and comparisons.

use std::ops::ControlFlow;
use std::path::PathBuf;

use seedfarm_core::recipe::{Extras, RECIPE_VERSION};
use seedfarm_core::{
    ModelManifest, NoiseSource, Numerics, PixelDigest, PromptSyntax, Recipe, RecipeTemplate, Sampler,
};
use seedfarm_engine::{Model, Progress};

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
        extras: Extras::default(),
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

/// Pixels, and the bits of the latents that they were rounded from, which tell more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traces {
    pub pixels: PixelDigest,
    pub latents: Vec<u32>,
}

/// Renders the recipes in one call.
pub fn traces(model: &Model, recipes: &[Recipe]) -> Vec<Traces> {
    let mut latents = Vec::new();
    let mut keep = |progress: &Progress<'_>| {
        let bits = |image: usize| progress.latents(image).iter().map(|value| value.to_bits()).collect();
        latents = (0..progress.images).map(bits).collect::<Vec<Vec<u32>>>();
        ControlFlow::Continue(())
    };
    let images = model.render(recipes, &mut keep).expect("the recipes render");
    let pixels = images.iter().map(|image| image.pixel_digest());
    pixels.zip(latents).map(|(pixels, latents)| Traces { pixels, latents }).collect()
}
