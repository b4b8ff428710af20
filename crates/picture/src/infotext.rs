//! The `parameters` text that A1111-style tools read: prompt lines, `Negative prompt: …`, and a last
//! line of `key: value` pairs.

use seedfarm_core::Recipe;

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
        ("Version", format!("seedfarm {version}")),
    ];
    let settings: Vec<String> =
        settings.iter().map(|(key, value)| format!("{key}: {}", quote(value))).collect();
    let negative = match template.negative_prompt.as_str() {
        "" => String::new(),
        negative => format!("\nNegative prompt: {negative}"),
    };
    format!("{}{negative}\n{}", template.prompt, settings.join(", ")).trim().to_owned()
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
    fn a_value_that_would_break_the_line_is_quoted() {
        let text = infotext(&recipe(), "apples, \"red\": 2", "1");
        assert!(text.contains(r#"Model: "apples, \"red\": 2", Version"#), "{text}");
    }
}
