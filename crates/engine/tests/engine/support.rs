//! What the engine's tests share: the built-in model, recipes for it, and comparisons.

use std::ops::ControlFlow;
use std::path::PathBuf;

use candle_core::Tensor;
use seedfarm_core::recipe::{Extras, RECIPE_VERSION};
use seedfarm_core::{
    ModelManifest, NoiseSource, Numerics, PixelDigest, PromptSyntax, Recipe, RecipeTemplate, Sampler,
};
use seedfarm_engine::{Model, Pictures, Progress};

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
    let images = model.render(recipes, &Pictures::default(), &mut keep).expect("the recipes render");
    let pixels = images.iter().map(|image| image.pixel_digest());
    pixels.zip(latents).map(|(pixels, latents)| Traces { pixels, latents }).collect()
}

/// The largest difference over the largest value.
pub fn relative_error(ours: &[f32], theirs: &Tensor) -> f32 {
    let theirs = theirs.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("latents are f32");
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// Likeness of two pictures in dB.
pub fn psnr_db(ours: &[u8], theirs: &Tensor) -> f64 {
    let theirs = theirs.flatten_all().and_then(|flat| flat.to_vec1::<u8>()).expect("pictures are bytes");
    assert_eq!(ours.len(), theirs.len());
    let squares: f64 = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 / (squares / ours.len() as f64)).log10()
}
