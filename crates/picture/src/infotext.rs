//! The `parameters` text that A1111-style tools read: prompt lines, `Negative prompt: …`, and a last
//! line of `key: value` pairs.

use seedfarm_core::{NoiseSource, Recipe, RecipeTemplate};

/// The text for an image of `recipe`, rendered with the model called `model_name` by this `version` of
/// Seedfarm.
///
/// The form is that of `create_infotext` and `quote` of AUTOMATIC1111's stable-diffusion-webui: values
/// with a comma, a colon or a line break are written as JSON strings.
pub fn infotext(recipe: &Recipe, model_name: &str, version: &str) -> String {
    let template = &recipe.template;
    let mut settings =
        vec![("Steps", template.steps().to_string()), ("Sampler", template.sampler.a1111_name().to_owned())];
    let levels = template.noise_schedule.sigma_schedule.a1111_name();
    settings.extend(levels.map(|levels| ("Schedule type", levels.to_owned())));
    settings.extend([
        ("CFG scale", template.guidance.to_string()),
        ("Seed", recipe.seed.to_string()),
        ("Size", format!("{}x{}", template.width, template.height)),
        ("Model hash", template.model_digest().short()),
        ("Model", model_name.to_owned()),
    ]);
    let settings: Vec<String> = settings
        .into_iter()
        .chain(extras(template))
        .chain([("Version", format!("seedfarm {version}"))])
        .map(|(key, value)| format!("{key}: {}", quote(&value)))
        .collect();
    let negative = match template.negative_prompt.as_str() {
        "" => String::new(),
        negative => format!("\nNegative prompt: {negative}"),
    };
    format!("{}{negative}\n{}", template.prompt, settings.join(", ")).trim().to_owned()
}

/// What A1111 has a key for besides, under its key; what it has none for is in the recipe alone.
///
/// Sources: `StableDiffusionProcessing` and `create_infotext` in its `modules/processing.py`. Its clip skip
/// counts layers from 1; its own Philox noise, `NV`, is another than ours, which has no name there.
fn extras(template: &RecipeTemplate) -> Vec<(&'static str, String)> {
    let extras = &template.extras;
    let source = extras.source.as_ref().map(|source| ("Denoising strength", source.strength.to_string()));
    let skip = (extras.clip_skip > 0).then(|| ("Clip skip", (extras.clip_skip + 1).to_string()));
    let variation = extras.variation.iter().flat_map(|variation| {
        let seed = ("Variation seed", variation.seed.to_string());
        [seed, ("Variation seed strength", variation.strength.to_string())]
    });
    // What A1111 calls NV is its imitation of a CUDA device's noise.
    let noise = match template.noise {
        NoiseSource::Philox => None,
        NoiseSource::TorchCpu => Some("CPU"),
        NoiseSource::TorchCuda => Some("NV"),
    };
    let noise = noise.map(|name| ("RNG", name.to_owned()));
    source.into_iter().chain(skip).chain(variation).chain(noise).collect()
}

fn quote(value: &str) -> String {
    if value.contains([',', ':', '\n']) {
        serde_json::Value::from(value).to_string()
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seedfarm_core::ArtifactDigest;
    use seedfarm_core::recipe::{Source, Variation};

    fn recipe() -> Recipe {
        Recipe::from_json(include_str!("../../core/src/recipe/golden_recipe.json")).unwrap()
    }

    #[test]
    fn the_text_has_the_form_that_a1111_writes() {
        let mut recipe = recipe();
        recipe.template.prompt = "a red apple".into();
        let hash = recipe.template.model_digest().short();
        assert_eq!(
            infotext(&recipe, "emoji-starter", "0.1.0"),
            format!(
                "a red apple\nSteps: 20, Sampler: DDIM, CFG scale: 3, Seed: 42, Size: 64x64, \
                 Model hash: {hash}, Model: emoji-starter, Version: seedfarm 0.1.0"
            )
        );
        recipe.template.negative_prompt = "blurry, dark".into();
        assert_eq!(infotext(&recipe, "m", "1").lines().nth(1).unwrap(), "Negative prompt: blurry, dark");
    }

    #[test]
    fn pictures_variations_and_clip_skip_stand_under_the_keys_of_a1111() {
        let mut recipe = recipe();
        let image = ArtifactDigest::of_bytes(b"source");
        recipe.template.extras.source = Some(Source { image, strength: 0.6, first_step: 8, mask: None });
        recipe.template.extras.variation = Some(Variation { seed: 7, strength: 0.25 });
        recipe.template.extras.clip_skip = 1;
        recipe.template.noise = NoiseSource::TorchCpu;
        let text = infotext(&recipe, "m", "1");
        let expected = "Model: m, Denoising strength: 0.6, Clip skip: 2, Variation seed: 7, \
                        Variation seed strength: 0.25, RNG: CPU, Version: seedfarm 1";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn chosen_noise_levels_are_named_as_the_schedule_type() {
        let mut recipe = recipe();
        recipe.template.sampler = seedfarm_core::Sampler::Dpmpp2m;
        recipe.template.noise_schedule.sigma_schedule = seedfarm_core::sampling::SigmaSchedule::Karras;
        let text = infotext(&recipe, "m", "1");
        assert!(text.contains("Sampler: DPM++ 2M, Schedule type: Karras, CFG scale"), "{text}");
    }

    #[test]
    fn a_value_that_would_break_the_line_is_quoted() {
        let text = infotext(&recipe(), "apples, \"red\": 2", "1");
        assert!(text.contains(r#"Model: "apples, \"red\": 2", Version"#), "{text}");
    }
}
