//! What a caller may ask of a loaded model, and how it is refused.

use std::ops::ControlFlow;

use crate::support::{recipe, sampled, tiny};
use seedfarm_core::{ComponentDigest, Numerics, Recipe, Sampler};
use seedfarm_engine::{DeviceSpec, Error, Model, Pictures, Progress, Unobserved, group};

fn model() -> Model {
    Model::load(&tiny("tiny-sd1"), &DeviceSpec::Cpu, Numerics::Strict, 1).expect("the model loads")
}

fn short(model: &Model, prompt: &str, seed: u64) -> Recipe {
    sampled(recipe(model.manifest(), Numerics::Strict, prompt, seed), Sampler::Euler, 3)
}

fn refusal(model: &Model, recipes: &[Recipe]) -> String {
    model
        .render(recipes, &Pictures::default(), &mut Unobserved)
        .expect_err("this must be refused")
        .to_string()
}

#[test]
fn a_recipe_for_other_weights_is_refused_by_component_and_digest() {
    let model = model();
    let mut recipe = short(&model, "a", 1);
    let other = ComponentDigest::of_bytes(b"other weights");
    recipe.template.model.insert("unet".to_owned(), other);
    let error = refusal(&model, &[recipe.clone()]);
    assert!(error.contains("unet") && error.contains(&other.to_string()), "{error}");
    recipe.template.model.remove("unet");
    assert!(refusal(&model, &[recipe]).contains("nothing"));
}

#[test]
fn a_recipe_in_another_class_of_arithmetic_is_refused() {
    let model = model();
    let mut recipe = short(&model, "a", 1);
    recipe.template.numerics = Numerics::Fast;
    let error = refusal(&model, &[recipe]);
    assert!(error.contains("fast") && error.contains("strict"), "{error}");
}

#[test]
fn sizes_and_steps_out_of_range_are_refused_with_the_limit() {
    let model = model();
    for (width, height) in [(0, 64), (64, 60), (4104, 64)] {
        let mut recipe = short(&model, "a", 1);
        (recipe.template.width, recipe.template.height) = (width, height);
        let error = refusal(&model, &[recipe]);
        assert!(error.contains("multiple of 8 up to 4096"), "{error}");
    }
    let mut recipe = short(&model, "a", 1);
    recipe.template.timesteps.clear();
    assert!(refusal(&model, &[recipe]).contains("0 steps"));
}

#[test]
fn timesteps_that_the_sampler_cannot_use_are_refused() {
    let model = model();
    for (sampler, timestep) in [(Sampler::Ddim, 1.5), (Sampler::Ddim, 1000.0), (Sampler::Euler, f64::NAN)] {
        let mut recipe = short(&model, "a", 1);
        recipe.template.sampler = sampler;
        recipe.template.timesteps = vec![timestep];
        let error = refusal(&model, &[recipe]);
        assert!(error.contains(&format!("timestep {timestep}")), "{error}");
    }
}

#[test]
fn recipes_that_cannot_share_a_batch_are_refused_and_can_be_grouped() {
    let model = model();
    let mut recipes =
        vec![short(&model, "a", 1), short(&model, "b", 2), short(&model, "c", 3), short(&model, "d", 4)];
    recipes[1].template.width = 64;
    recipes[2].template.guidance = 1.0;
    let error = model.render(&recipes, &Pictures::default(), &mut Unobserved).expect_err("sizes differ");
    assert!(matches!(error, Error::MixedBatch { field: "size", index: 1 }), "{error}");
    assert_eq!(group(&recipes, 8), [vec![0, 3], vec![1], vec![2]]);
    recipes[1] = recipes[0].clone();
    assert_eq!(group(&recipes, 2), [vec![0, 1], vec![2], vec![3]]);
    for batch in group(&recipes, 2) {
        let batch: Vec<Recipe> = batch.into_iter().map(|index| recipes[index].clone()).collect();
        assert_eq!(
            model.render(&batch, &Pictures::default(), &mut Unobserved).expect("a group renders").len(),
            batch.len()
        );
    }
}

#[test]
fn a_model_that_changes_pictures_refuses_a_recipe_that_brings_none() {
    let model = Model::load(&tiny("tiny-inpaint"), &DeviceSpec::Cpu, Numerics::Strict, 1).expect("it loads");
    let error = refusal(&model, &[short(&model, "a red apple", 1)]);
    assert!(error.contains("must bring a source picture and a mask"), "{error}");
}

#[test]
fn no_recipes_are_no_images() {
    assert!(model().render(&[], &Pictures::default(), &mut Unobserved).expect("nothing is fine").is_empty());
}

#[test]
fn an_observer_sees_every_step_and_can_look_and_stop() {
    let model = model();
    let recipes = [short(&model, "a", 1), short(&model, "b", 2)];
    let mut seen = Vec::new();
    let mut previews = Vec::new();
    let mut watch = |progress: &Progress<'_>| {
        seen.push((progress.step, progress.steps, progress.images));
        previews.push(progress.preview(1).expect("a preview decodes"));
        ControlFlow::Continue(())
    };
    let images = model.render(&recipes, &Pictures::default(), &mut watch).expect("it renders");
    assert_eq!(seen, [(1, 3, 2), (2, 3, 2), (3, 3, 2)]);
    // Euler's last step goes to the estimate itself.
    assert_eq!(previews[2], images[1]);
    assert_ne!(previews[0], images[1]);

    let mut stop = |progress: &Progress<'_>| {
        if progress.step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = model.render(&recipes, &Pictures::default(), &mut stop).expect_err("it was cancelled");
    assert!(matches!(error, Error::Cancelled { step: 2, steps: 3 }), "{error}");
}

#[test]
fn a_prompt_longer_than_the_window_is_rendered_with_a_warning_that_quotes_the_rest() {
    let model = model();
    let long = "a photograph of an astronaut riding a horse on the moon, red apple, yellow background";
    let images = model
        .render(&[short(&model, long, 1), short(&model, "a", 1)], &Pictures::default(), &mut Unobserved)
        .expect("it renders");
    assert_eq!(images[0].warnings.len(), 1);
    assert!(images[0].warnings[0].contains("red apple, yellow background"), "{:?}", images[0].warnings);
    assert!(images[1].warnings.is_empty());
    let tokens = model.check_prompt(long).expect("it tokenizes");
    assert_eq!(
        (tokens.ids.len(), tokens.kept, tokens.cut_off.as_str()),
        (19, 17, "red apple, yellow background")
    );
}

#[test]
fn a_prompt_of_a_megabyte_is_refused_with_the_limit() {
    let error = model().check_prompt(&"a ".repeat(1 << 19)).expect_err("too long").to_string();
    assert!(error.contains("65536"), "{error}");
}

#[test]
fn weights_that_overflow_are_an_error_and_no_picture() {
    let model = model();
    let mut recipe = short(&model, "a", 1);
    recipe.template.guidance = 1e38;
    let error = refusal(&model, &[recipe]);
    assert!(error.contains("not finite"), "{error}");
}
