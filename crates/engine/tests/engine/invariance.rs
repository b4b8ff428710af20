//! An image does not depend on what stands beside it, nor on how many threads render it.

use std::ops::ControlFlow;
use std::path::Path;

use crate::support::{emoji_starter, recipe, sampled, tiny};
use seedfarm_core::{Numerics, PixelDigest, Recipe, Sampler};
use seedfarm_engine::{DeviceSpec, Model, Progress};

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

/// Pixels, and the bits of the latents that they were rounded from, which tell more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Traces {
    pixels: PixelDigest,
    latents: Vec<u32>,
}

fn traces(model: &Model, recipes: &[Recipe]) -> Vec<Traces> {
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

fn is_the_same_in_every_batch(folder: &Path, size: Option<(u32, u32)>) {
    for numerics in Numerics::ALL {
        let model = Model::load(folder, &DeviceSpec::Cpu, numerics, 2).expect("the model loads");
        for (sampler, guided) in [(Sampler::EulerAncestral, true), (Sampler::Ddim, false)] {
            let mut recipes = recipes(&model, numerics, sampler, guided);
            for (recipe, (width, height)) in recipes.iter_mut().filter_map(|recipe| Some((recipe, size?))) {
                (recipe.template.width, recipe.template.height) = (width, height);
            }
            let mut alone: Vec<Traces> =
                recipes.iter().flat_map(|recipe| traces(&model, std::slice::from_ref(recipe))).collect();
            for size in [2, 4, 8] {
                let together: Vec<Traces> =
                    recipes.chunks(size).flat_map(|batch| traces(&model, batch)).collect();
                assert!(together == alone, "{numerics:?} {sampler:?} in batches of {size}");
                // Another neighbour and another position for each.
                recipes.rotate_left(3);
                alone.rotate_left(3);
            }
        }
    }
}

#[test]
fn pixels_of_the_built_in_model_do_not_depend_on_batch_or_position() {
    is_the_same_in_every_batch(&emoji_starter(), None);
}

/// Kernels take other ways for products of one row or of few elements. With 16 pixels a side the smallest
/// level of the networks has one position, and one row where nothing is folded into it.
#[test]
fn pixels_of_the_smallest_layers_do_not_depend_on_batch_or_position() {
    for (name, size) in
        [("tiny-sd1", (16, 16)), ("tiny-sd1", (56, 72)), ("tiny-sd2", (8, 8)), ("tiny-sd2", (24, 16))]
    {
        is_the_same_in_every_batch(&tiny(name), Some(size));
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
        let one = traces(&model, &recipes[..2]);
        for threads in [2, 3] {
            model.set_threads(threads).expect("threads start");
            assert!(traces(&model, &recipes[..2]) == one, "{numerics:?} with {threads} threads");
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
    let mut all = traces(&model, &[vec![first], others].concat());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}
