//! An image does not depend on what stands beside it, nor on how many threads render it.

use std::path::Path;

use crate::support::{emoji_starter, recipe, sampled, tiny};
use seedfarm_core::{Numerics, PixelDigest, Recipe, Sampler};
use seedfarm_engine::{DeviceSpec, Model, Unobserved};

const PROMPTS: [&str; 8] = [
    "cat face on a blue background",
    "red apple on a yellow background",
    "",
    "penguin on a blue background",
    "pizza on a green background",
    "cat face on a blue background",
    "birthday cake on a pink background, and much more than the twenty-four tokens that this model can read at once",
    "banana",
];

/// Eight recipes that may share a batch and differ in everything that may differ.
fn recipes(model: &Model, numerics: Numerics, sampler: Sampler, guided: bool) -> Vec<Recipe> {
    let one = |(index, prompt): (usize, &&str)| {
        let mut recipe = recipe(model.manifest(), numerics, prompt, (index as u64) << 33 | 5);
        recipe.template.negative_prompt = if index % 3 == 0 { "black".to_owned() } else { String::new() };
        recipe.template.guidance = if guided { 2.0 + index as f64 } else { 1.0 };
        sampled(recipe, sampler, 3)
    };
    PROMPTS.iter().enumerate().map(one).collect()
}

fn digests(model: &Model, recipes: &[Recipe]) -> Vec<PixelDigest> {
    let images = model.render(recipes, &mut Unobserved).expect("the recipes render");
    images.iter().map(|image| image.pixel_digest()).collect()
}

fn is_the_same_in_every_batch(folder: &Path) {
    for numerics in Numerics::ALL {
        let model = Model::load(folder, &DeviceSpec::Cpu, numerics, 2).expect("the model loads");
        for (sampler, guided) in
            [(Sampler::Ddim, true), (Sampler::EulerAncestral, true), (Sampler::Euler, false)]
        {
            let mut recipes = recipes(&model, numerics, sampler, guided);
            let mut alone: Vec<PixelDigest> =
                recipes.iter().flat_map(|recipe| digests(&model, std::slice::from_ref(recipe))).collect();
            for size in [2, 4, 8] {
                let together: Vec<PixelDigest> =
                    recipes.chunks(size).flat_map(|batch| digests(&model, batch)).collect();
                assert_eq!(together, alone, "{numerics:?} {sampler:?} in batches of {size}");
                // Another neighbour and another position for each.
                recipes.rotate_left(3);
                alone.rotate_left(3);
            }
        }
    }
}

#[test]
fn pixels_of_the_built_in_model_do_not_depend_on_batch_or_position() {
    is_the_same_in_every_batch(&emoji_starter());
}

#[test]
fn pixels_of_small_layers_do_not_depend_on_batch_or_position() {
    for name in ["tiny-sd1", "tiny-sd2"] {
        is_the_same_in_every_batch(&tiny(name));
    }
}

#[test]
fn pixels_do_not_depend_on_the_number_of_threads() {
    for (folder, numerics) in [emoji_starter(), tiny("tiny-sd1"), tiny("tiny-sd2")]
        .iter()
        .flat_map(|folder| Numerics::ALL.map(|numerics| (folder, numerics)))
    {
        let mut model = Model::load(folder, &DeviceSpec::Cpu, numerics, 1).expect("the model loads");
        let recipes = recipes(&model, numerics, Sampler::EulerAncestral, true);
        let one = digests(&model, &recipes[..2]);
        for threads in [2, 3] {
            model.set_threads(threads).expect("threads start");
            assert_eq!(digests(&model, &recipes[..2]), one, "{numerics:?} with {threads} threads");
        }
    }
}

#[test]
fn different_seeds_prompts_and_guidance_give_different_pixels() {
    let model =
        Model::load(&emoji_starter(), &DeviceSpec::Cpu, Numerics::Strict, 2).expect("the model loads");
    let first = sampled(recipe(model.manifest(), Numerics::Strict, "banana", 1), Sampler::Ddim, 2);
    let mut others = vec![first.clone(); 4];
    others[0].seed = 1 << 32 | 1;
    others[1].template.prompt = "pizza".to_owned();
    others[2].template.guidance = 4.0;
    others[3].template.negative_prompt = "pizza".to_owned();
    let mut all = digests(&model, &[vec![first], others].concat());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}
