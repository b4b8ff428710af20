//! What most recipes do without reaches the pixels.

use seedfarm_core::recipe::Variation;
use seedfarm_core::sampling::SigmaSchedule;
use seedfarm_core::{Numerics, PixelDigest, Recipe, Sampler};
use seedfarm_engine::{DeviceSpec, Model, Pictures, Progress, Rendered, Unobserved};
use std::ops::ControlFlow;

use crate::support::{recipe, repository, sampled, tiny};

fn model(name: &str) -> Model {
    Model::load(&tiny(name), &DeviceSpec::Cpu, Numerics::Strict, 0).expect("the model loads")
}

fn small(model: &Model, seed: u64) -> Recipe {
    let mut recipe = recipe(model.manifest(), Numerics::Strict, "a red apple", seed);
    (recipe.template.width, recipe.template.height) = (72, 64);
    sampled(recipe, Sampler::Euler, 3)
}

fn render(model: &Model, recipe: &Recipe) -> Rendered {
    let recipes = std::slice::from_ref(recipe);
    model.render(recipes, &Pictures::default(), &mut Unobserved).expect("it renders").remove(0)
}

fn pixels(model: &Model, recipe: &Recipe) -> PixelDigest {
    render(model, recipe).pixel_digest()
}

#[test]
fn tiles_as_large_as_the_picture_change_nothing_and_smaller_ones_little() {
    let model = model("tiny-sd1");
    let whole = small(&model, 1);
    let tiled = |side: u32| {
        let mut recipe = whole.clone();
        recipe.template.extras.decode_tile = Some(side);
        render(&model, &recipe)
    };
    let picture = render(&model, &whole);
    assert_eq!(tiled(72), picture);
    let apart = |other: &Rendered| {
        let differences = picture.rgb.iter().zip(&other.rgb).map(|(a, b)| f64::from(a.abs_diff(*b)));
        differences.sum::<f64>() / picture.rgb.len() as f64
    };
    let mut odd = whole.clone();
    odd.template.extras.decode_tile = Some(68);
    let mut stepped = false;
    let mut watch = |_: &Progress<'_>| {
        stepped = true;
        ControlFlow::Continue(())
    };
    let error = model.render(&[odd], &Pictures::default(), &mut watch).expect_err("tiles of 8.5 latents");
    assert!(error.to_string().contains("decode_tile 68"), "{error}");
    assert!(!stepped, "it is told before the work");
    let in_tiles = tiled(64);
    assert!(apart(&in_tiles) > 0.0, "the tiles were not used");
    assert!(apart(&in_tiles) < 25.0, "{}", apart(&in_tiles));
}

#[test]
fn a_variation_leads_from_one_seeds_image_to_anothers() {
    let model = model("tiny-sd1");
    let (first, second) = (small(&model, 1), small(&model, 2));
    let varied = |strength: f64| {
        let mut recipe = first.clone();
        recipe.template.extras.variation = Some(Variation { seed: 2, strength });
        pixels(&model, &recipe)
    };
    assert_eq!(varied(0.0), pixels(&model, &first));
    let between = varied(0.3);
    assert!(![pixels(&model, &first), pixels(&model, &second)].contains(&between));
}

#[test]
fn resolved_noise_levels_and_eta_move_the_image() {
    let model = model("tiny-sd1");
    let plain = small(&model, 1);
    let mut karras = plain.clone();
    let schedule = plain.template.noise_schedule.in_force(Sampler::Euler, Some(SigmaSchedule::Karras));
    let resolved = schedule.resolve(Sampler::Euler, 3).expect("steps are in range");
    (karras.template.timesteps, karras.template.extras.sigmas) = (resolved.timesteps, resolved.sigmas);
    karras.template.noise_schedule = schedule;
    assert_ne!(pixels(&model, &karras), pixels(&model, &plain));
    let ancestral = sampled(plain.clone(), Sampler::EulerAncestral, 3);
    let mut calm = ancestral.clone();
    calm.template.extras.eta = Some(0.0);
    assert_ne!(pixels(&model, &calm), pixels(&model, &ancestral));
    // Without fresh noise the ancestral sampler is Euler's.
    assert_eq!(pixels(&model, &calm), pixels(&model, &plain));
}

#[test]
fn images_of_different_chunks_render_together_as_they_do_alone() {
    let model = model("tiny-sd1");
    let mut short = small(&model, 1);
    short.template.prompt_syntax = seedfarm_core::PromptSyntax::Weighted;
    let mut long = short.clone();
    long.template.prompt = "the (quick:1.3) brown fox BREAK jumps over the lazy dog, it is 2026".to_owned();
    let recipes = [short.clone(), long.clone()];
    let together = model.render(&recipes, &Pictures::default(), &mut Unobserved).expect("they render");
    assert_eq!(together, [render(&model, &short), render(&model, &long)]);
    let mut plain = long;
    plain.template.prompt_syntax = seedfarm_core::PromptSyntax::Plain;
    assert_ne!(pixels(&model, &plain), together[1].pixel_digest());
}

#[test]
fn a_small_decoder_beside_the_model_draws_its_previews_and_nothing_else() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let copy = folder.path().join("model");
    copy_tree(&tiny("tiny-sd1"), &copy);
    let plain = model("tiny-sd1");
    copy_tree(&repository().join("tests/parity/models/tiny-taesd"), &copy.join("taesd"));
    let quick = Model::load(&copy, &DeviceSpec::Cpu, Numerics::Strict, 0).expect("the model loads");
    let look = |model: &Model| {
        let mut seen = None;
        let mut watch = |progress: &Progress<'_>| {
            seen = Some(progress.preview(0).expect("a preview"));
            ControlFlow::Continue(())
        };
        let recipe = small(model, 1);
        let image = model.render(&[recipe], &Pictures::default(), &mut watch).expect("it renders").remove(0);
        (seen.expect("there was a step"), image)
    };
    let ((preview, image), (slow_preview, same_image)) = (look(&quick), look(&plain));
    assert_eq!(image, same_image);
    assert_eq!(slow_preview.rgb, image.rgb, "the last preview of the whole decoder is the image");
    assert_ne!(preview.rgb, slow_preview.rgb);
    assert_eq!((preview.width, preview.height), (72, 64));
    let config = copy.join("taesd/config.json");
    let text = std::fs::read_to_string(&config).expect("it is there");
    let three = text.replace("\"latent_channels\": 4", "\"latent_channels\": 3");
    for (spoilt, words) in [("{".to_owned(), "config.json"), (three, "decoder.layers.0.weight")] {
        std::fs::write(&config, spoilt).expect("it can be written");
        let error = Model::load(&copy, &DeviceSpec::Cpu, Numerics::Strict, 0).err().expect("it is refused");
        assert!(error.to_string().contains(words), "{error}");
    }
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("an entry").path();
        let name = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy_tree(&entry, &name);
        } else {
            std::fs::copy(&entry, &name).expect("the file can be copied");
        }
    }
}
