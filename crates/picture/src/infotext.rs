//! The `parameters` text that A1111-style tools read: prompt lines, `Negative prompt: …`, and a last
//! line of `key: value` pairs.

use seedfarm_core::{Recipe, RecipeTemplate};

/// The text for an image of `recipe`, rendered with the model called `model_name` by this `version` of
/// Seedfarm.
///
/// The form is that of `create_infotext` and `quote` of AUTOMATIC1111's stable-diffusion-webui: values
/// with a comma, a colon or a line break are written as JSON strings.
pub fn infotext(recipe: &Recipe, model_name: &str, version: &str) -> String {
    let template = &recipe.template;
    let settings = [
        ("Steps", template.steps().to_string()),
        ("Sampler", template.sampler.a1111_name().to_owned()),
        ("CFG scale", template.guidance.to_string()),
        ("Seed", recipe.seed.to_string()),
        ("Size", format!("{}x{}", template.width, template.height)),
        ("Model hash", template.model_digest().short()),
        ("Model", model_name.to_owned()),
    ];
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
/// counts layers from 1; its own Philox noise, `NV`, is another than ours and is not claimed.
fn extras(template: &RecipeTemplate) -> Vec<(&'static str, String)> {
    let extras = &template.extras;
    let source = extras.source.as_ref().map(|source| ("Denoising strength", source.strength.to_string()));
    let skip = (extras.clip_skip > 0).then(|| ("Clip skip", (extras.clip_skip + 1).to_string()));
    let variation = extras.variation.iter().flat_map(|variation| {
        let seed = ("Variation seed", variation.seed.to_string());
        [seed, ("Variation seed strength", variation.strength.to_string())]
    });
    source.into_iter().chain(skip).chain(variation).collect()
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
        let text = infotext(&recipe, "m", "1");
        let expected = "Model: m, Denoising strength: 0.6, Clip skip: 2, Variation seed: 7, \
                        Variation seed strength: 0.25, RNG: CPU, Version: seedfarm 1";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_value_that_would_break_the_line_is_quoted() {
        let text = infotext(&recipe(), "apples, \"red\": 2", "1");
        assert!(text.contains(r#"Model: "apples, \"red\": 2", Version"#), "{text}");
    }
}
