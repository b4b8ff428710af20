//! What the tests ask for.

use seedfarm_core::model::ModelDefaults;
use seedfarm_core::{JobId, ModelManifest, Recipe, RecipeTemplate, Sampler, canonical};
use seedfarm_proto::v1;

/// Sampling steps of every recipe.
pub const STEPS: u64 = 4;

pub fn template(prompt: &str) -> RecipeTemplate {
    let json = include_str!("../../../core/src/recipe/golden_recipe.json");
    let mut template = Recipe::from_json(json).unwrap().template;
    template.prompt = prompt.into();
    (template.width, template.height) = (8, 8);
    template.timesteps.truncate(STEPS as usize);
    template
}

/// The recipe of image `index`: its seed is the index.
pub fn recipe(index: u64, prompt: &str) -> Recipe {
    template(prompt).with_seed(index)
}

/// The model that every recipe names.
pub fn manifest() -> ModelManifest {
    let template = template("");
    ModelManifest {
        name: "painter".into(),
        family: "test".into(),
        components: template.model,
        noise_schedule: template.noise_schedule,
        defaults: ModelDefaults { width: 8, height: 8, steps: 4, guidance: 3.0, sampler: Sampler::Ddim },
        size_multiple: 8,
        max_side: 64,
        inpainting: false,
        weights_bytes: 0,
        licence: None,
    }
}

pub fn fence(lease: i64) -> v1::Fence {
    v1::Fence { lease_id: lease, attempt: 1, epoch: 1 }
}

/// A lease of images, each an index and a prompt, on device 0.
pub fn grant(lease: i64, images: &[(u64, &str)]) -> v1::Grant {
    let templates: Vec<RecipeTemplate> = images.iter().map(|(_, prompt)| template(prompt)).collect();
    grant_of(lease, images.iter().map(|(index, _)| *index), &templates)
}

/// A lease in which each image has a template of its own.
pub fn grant_of(lease: i64, indices: impl Iterator<Item = u64>, templates: &[RecipeTemplate]) -> v1::Grant {
    let image = |(template, index)| v1::LeasedImage { index, template, seed: index };
    v1::Grant {
        fence: Some(fence(lease)),
        job_id: JobId::from_uuid(uuid::Uuid::from_u128(5)).to_string(),
        device: 0,
        model_digest: templates[0].model_digest().to_string(),
        images: (0..).zip(indices).map(image).collect(),
        templates_json: templates.iter().map(canonical::to_string).collect(),
    }
}
