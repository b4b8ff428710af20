//! Images that start from pictures, fill them in or follow them, against whole pipelines of diffusers on
//! PyTorch's own noise; `tests/parity/pictures.py` wrote the references.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use seedfarm_core::plan::{Catalogue, JobSpec, PictureSize, PromptLine, Settings, plan_with};
use seedfarm_core::{
    AdapterDigest, AdapterManifest, ArtifactDigest, JobTerms, NoiseSource, Numerics, Recipe, Sampler,
    SeedPolicy,
};
use seedfarm_engine::{
    DeviceSpec, Model, Picture, Pictures, Progress, Rendered, describe_adapter, read_manifest,
};
use serde_json::{Value, json};

use crate::support::{psnr_db, relative_error, repository, tiny};

const LEAST_PSNR_DB: f64 = 60.0;
/// Of the last latents.
const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn golden() -> HashMap<String, Tensor> {
    let path = repository().join("tests/parity/golden/pictures.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).expect("the references are there")
}

fn cases() -> Vec<Value> {
    let path = repository().join("tests/parity/golden/pictures.json");
    serde_json::from_slice(&std::fs::read(path).expect("the cases are there")).expect("the cases are JSON")
}

/// The digest under which a picture of the references goes.
fn digest(name: &str) -> ArtifactDigest {
    ArtifactDigest::of_bytes(name.as_bytes())
}

fn pictures(golden: &HashMap<String, Tensor>) -> Pictures {
    let picture = |name: &str| {
        let tensor = &golden[&format!("picture/{name}")];
        let (height, width, _) = tensor.dims3().expect("rows, columns, colours");
        let bytes = tensor.to_dtype(DType::U8).and_then(|bytes| bytes.flatten_all()?.to_vec1::<u8>());
        Picture::new(width as u32, height as u32, bytes.expect("bytes")).expect("all bytes are there")
    };
    ["a", "b", "m"].map(|name| (digest(name), picture(name))).into_iter().collect()
}

/// What a case asks for, as a request says it.
fn settings(case: &Value) -> Settings {
    let mut settings = json!({
        "negative_prompt": case["negative_prompt"], "width": case["width"], "height": case["height"],
        "steps": case["steps"], "guidance": case["guidance"], "sampler": case["sampler"],
    });
    if let Some(name) = case["source"].as_str() {
        settings["source"] = json!({ "image": digest(name), "strength": case["strength"] });
        if let Some(mask) = case["mask"].as_str() {
            settings["source"]["mask"] = json!(digest(mask));
        }
    }
    for key in ["clip_skip", "guidance_rescale"] {
        settings[key] = case[key].clone();
    }
    if let Some(controls) = case["controls"].as_array() {
        let control = |control: &Value| {
            json!({ "name": control["net"], "image": digest(control["image"].as_str().expect("a name")),
                "scale": control["scale"], "start": control["start"], "end": control["end"] })
        };
        settings["controls"] = controls.iter().map(control).collect();
    }
    let Value::Object(members) = settings else { unreachable!("it was built as an object") };
    Settings::from_json(members).expect("the case is a request")
}

fn recipe(case: &Value, numerics: Numerics, adapters: Vec<AdapterManifest>) -> Recipe {
    let manifest = read_manifest(&tiny(case["model"].as_str().expect("a model"))).expect("a model");
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    let prompt = PromptLine { line: 1, prompt: text("prompt"), seed: None, settings: settings(case) };
    let spec = JobSpec {
        name: String::new(),
        prompts: vec![prompt],
        count: 1,
        seed: text("seed").parse().expect("a seed"),
        seed_policy: SeedPolicy::Fixed,
        terms: JobTerms::default(),
        numerics,
        noise: NoiseSource::TorchCpu,
        settings: Settings::default(),
    };
    let size = PictureSize { width: 56, height: 72 };
    let catalogue = Catalogue {
        adapters,
        pictures: ["a", "b", "m"].map(|name| (digest(name), size)).into_iter().collect(),
    };
    let plan = plan_with(&spec, &manifest, &catalogue).expect("the case passes admission");
    plan.recipe(0).expect("it has an image")
}

fn controls() -> (Vec<AdapterManifest>, HashMap<AdapterDigest, PathBuf>) {
    let describe = |name: &str| {
        let manifest = describe_adapter(&tiny(name)).expect("it can be used").expect("it is an adapter");
        (manifest.digest, (manifest, tiny(name)))
    };
    let found = HashMap::from(["tiny-control-sd1", "tiny-control-xl"].map(describe));
    let paths = found.iter().map(|(digest, (_, path))| (*digest, path.clone())).collect();
    (found.into_values().map(|(manifest, _)| manifest).collect(), paths)
}

fn render(case: &Value, numerics: Numerics, pictures: &Pictures) -> (Rendered, Vec<f32>) {
    let (adapters, paths) = controls();
    let recipe = recipe(case, numerics, adapters);
    let folder = tiny(case["model"].as_str().expect("a model"));
    let model =
        Model::load_for(&folder, &DeviceSpec::Cpu, &recipe.template, &paths, 0).expect("the model loads");
    let mut latents = Vec::new();
    let mut keep = |progress: &Progress<'_>| {
        latents = progress.latents(0).to_vec();
        ControlFlow::Continue(())
    };
    let mut images = model.render(&[recipe], pictures, &mut keep).expect("the case renders");
    (images.remove(0), latents)
}

fn agrees_with_diffusers(wanted: impl Fn(&str) -> bool) {
    let golden = golden();
    let pictures = pictures(&golden);
    let cases: Vec<Value> =
        cases().into_iter().filter(|case| wanted(case["name"].as_str().expect("a name"))).collect();
    assert!(!cases.is_empty());
    for (case, numerics) in cases.iter().flat_map(|case| Numerics::ALL.map(|numerics| (case, numerics))) {
        let name = case["name"].as_str().expect("a name");
        let (image, latents) = render(case, numerics, &pictures);
        let error = relative_error(&latents, &golden[&format!("{name}/latents")]);
        let psnr = psnr_db(&image.rgb, &golden[&format!("{name}/rgb")]);
        println!("{name} {}: {error:e}, {psnr:.1} dB", numerics.as_str());
        assert!(error < LARGEST_RELATIVE_ERROR, "{name} {numerics:?}: {error}");
        assert!(psnr > LEAST_PSNR_DB, "{name} {numerics:?}: {psnr} dB");
    }
}

#[test]
fn images_that_start_from_pictures_agree_with_diffusers() {
    agrees_with_diffusers(|name| name.starts_with("source") || name == "xl-source");
}

#[test]
fn pictures_filled_in_agree_with_diffusers() {
    agrees_with_diffusers(|name| name.starts_with("mask") || name == "xl-mask");
}

#[test]
fn images_that_follow_pictures_agree_with_diffusers() {
    agrees_with_diffusers(|name| name.starts_with("control") || name == "xl-control");
}

#[test]
fn the_large_models_clip_skip_and_guidance_rescale_agree_with_diffusers() {
    agrees_with_diffusers(|name| ["xl-text", "rescale", "skip", "xl-skip-rescale"].contains(&name));
}

#[test]
fn neighbours_in_a_batch_leave_an_image_with_a_picture_as_it_is() {
    let pictures = pictures(&golden());
    let cases = cases();
    let case = cases.iter().find(|case| case["name"] == "mask-euler_ancestral").expect("the case is there");
    let first = recipe(case, Numerics::Strict, Vec::new());
    let mut second = first.clone();
    second.seed += 1;
    second.template.prompt = "the quick brown fox".to_owned();
    second.template.extras.source.as_mut().expect("it has one").image = digest("b");
    let folder = tiny("tiny-sd1");
    let model = Model::load(&folder, &DeviceSpec::Cpu, Numerics::Strict, 0).expect("the model loads");
    let render = |recipes: &[Recipe]| {
        model.render(recipes, &pictures, &mut seedfarm_engine::Unobserved).expect("the recipes render")
    };
    let together = render(&[first.clone(), second.clone()]);
    assert_eq!(together, [render(&[first]), render(&[second])].concat());
    assert_ne!(together[0].rgb, together[1].rgb);
}

#[test]
fn a_recipe_whose_picture_or_adapter_is_not_there_is_refused_by_its_digest() {
    let cases = cases();
    let case = |name: &str| cases.iter().find(|case| case["name"] == name).expect("the case is there");
    let (adapters, _) = controls();
    let followed = recipe(case("control"), Numerics::Strict, adapters);
    let control = followed.template.extras.controls[0].model.to_string();
    let folder = tiny("tiny-sd1");
    let error = Model::load_for(&folder, &DeviceSpec::Cpu, &followed.template, &HashMap::new(), 0);
    assert!(error.err().expect("it is refused").to_string().contains(&control));
    let model = Model::load(&folder, &DeviceSpec::Cpu, Numerics::Strict, 0).expect("the model loads");
    assert!(!model.serves(&followed.template));
    let started = recipe(case("source-euler"), Numerics::Strict, Vec::new());
    for (recipe, words) in [(started, digest("a").to_string()), (followed, "other adapters".to_owned())] {
        let error = model.render(&[recipe], &Pictures::default(), &mut seedfarm_engine::Unobserved);
        let error = error.expect_err("it is refused").to_string();
        assert!(error.contains(&words), "{error}");
    }
}

#[test]
fn a_batch_of_sampler_names_what_its_recipes_must_share() {
    let pictures = Pictures::default();
    let cases = cases();
    let case = cases.iter().find(|case| case["name"] == "source-euler").expect("the case is there");
    let first = recipe(case, Numerics::Strict, Vec::new());
    let mut second = first.clone();
    second.template.extras.source.as_mut().expect("it has one").first_step += 1;
    assert_eq!(seedfarm_engine::group(&[first.clone(), second.clone()], 8).len(), 2);
    let model = Model::load(&tiny("tiny-sd1"), &DeviceSpec::Cpu, Numerics::Strict, 0).expect("it loads");
    let error = model.render(&[first.clone(), second], &pictures, &mut seedfarm_engine::Unobserved);
    assert!(error.expect_err("they differ").to_string().contains("first step"));
    assert_eq!(first.template.sampler, Sampler::Euler);
}
