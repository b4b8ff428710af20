//! Recipes from strangers: what is accepted survives being written and read, and its schedule resolves or is
//! refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seedfarm_core::Recipe;

fuzz_target!(|text: &str| {
    let Ok(recipe) = Recipe::from_json(text) else { return };
    assert_eq!(Recipe::from_json(&recipe.canonical()).expect("it was written from a recipe"), recipe);
    let template = &recipe.template;
    let _ = template.noise_schedule.resolve(template.sampler, template.steps());
});
