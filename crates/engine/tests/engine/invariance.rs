//! An image does not depend on what stands beside it, nor on how many threads render it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Traces, emoji_starter, recipe, sampled, tiny, traces};
use seedfarm_core::{Numerics, Recipe, Sampler};
use seedfarm_engine::{DeviceSpec, Model};

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
        sampled(recipe, sampler, 2)
    };
    PROMPTS.iter().enumerate().map(one).collect()
}

/// Renders eight recipes alone and in batches of every size up to eight, each recipe at several places.
fn is_the_same_in_every_batch(folder: &Path, (width, height): (u32, u32)) {
    for numerics in Numerics::ALL {
        let model = Model::load(folder, &DeviceSpec::Cpu, numerics, 2).expect("the model loads");
        for (sampler, guided) in [(Sampler::EulerAncestral, true), (Sampler::Ddim, false)] {
            let mut recipes = recipes(&model, numerics, sampler, guided);
            for recipe in &mut recipes {
                (recipe.template.width, recipe.template.height) = (width, height);
            }
            let alone = |recipe: Recipe| (traces(&model, std::slice::from_ref(&recipe)).remove(0), recipe);
            let mut numbered: Vec<(usize, (Traces, Recipe))> =
                recipes.into_iter().map(alone).enumerate().collect();
            let mut places = vec![BTreeSet::new(); numbered.len()];
            for size in 1..=8 {
                for batch in numbered.chunks(size) {
                    let recipes: Vec<Recipe> = batch.iter().map(|(_, (_, recipe))| recipe.clone()).collect();
                    for (place, (together, (index, (alone, _)))) in
                        traces(&model, &recipes).iter().zip(batch).enumerate()
                    {
                        assert!(
                            together == alone,
                            "{numerics:?} {sampler:?}, image {index} at place {place} of {}",
                            batch.len()
                        );
                        places[*index].insert(place);
                    }
                }
                // Another neighbour and another position for each.
                numbered.rotate_left(5);
            }
            assert!(places.iter().all(|places| places.len() >= 4), "{places:?}");
        }
    }
}

#[test]
fn pixels_of_the_built_in_model_do_not_depend_on_batch_or_position() {
    is_the_same_in_every_batch(&emoji_starter(), (32, 24));
}

/// Kernels take other ways for products of one row or of few elements. With 16 pixels a side the smallest
/// level of the networks has one position, and one row where nothing is folded into it.
#[test]
fn pixels_of_the_smallest_layers_do_not_depend_on_batch_or_position() {
    for (name, size) in
        [("tiny-sd1", (16, 16)), ("tiny-sd1", (40, 24)), ("tiny-sd2", (8, 8)), ("tiny-sd2", (24, 16))]
    {
        is_the_same_in_every_batch(&tiny(name), size);
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
        for threads in [2, 3, 7] {
            seedfarm_numerics::always_split(true);
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
