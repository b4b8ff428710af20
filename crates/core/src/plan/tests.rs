use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::adapter::{AdapterKind, AdapterManifest};
use crate::digest::{AdapterDigest, ArtifactDigest, ComponentDigest};
use crate::model::ModelDefaults;
use crate::recipe::Lora;
use crate::sampling::{BetaCurve, NoiseSchedule, Prediction, Sampler, Spacing};

pub(crate) fn manifest() -> ModelManifest {
    ModelManifest {
        name: "emoji-starter".into(),
        family: "stable-diffusion".into(),
        components: BTreeMap::from([("unet".to_owned(), ComponentDigest::of_bytes(b"unet"))]),
        noise_schedule: NoiseSchedule {
            train_steps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_curve: BetaCurve::ScaledLinear,
            prediction: Prediction::Epsilon,
            spacing: Spacing::Leading,
            steps_offset: 1,
            set_alpha_to_one: false,
            ..NoiseSchedule::default()
        },
        defaults: ModelDefaults { width: 64, height: 64, steps: 20, guidance: 3.0, sampler: Sampler::Ddim },
        size_multiple: 8,
        max_side: 512,
        inpainting: false,
        weights_bytes: 1,
        licence: None,
    }
}

pub(crate) fn spec(prompts: &[&str], count: u32) -> JobSpec {
    let line = |(i, prompt): (usize, &&str)| PromptLine {
        line: i + 1,
        prompt: (*prompt).to_owned(),
        seed: None,
        settings: Settings::default(),
    };
    JobSpec {
        name: String::new(),
        prompts: prompts.iter().enumerate().map(line).collect(),
        count,
        seed: 42,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: Numerics::Strict,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    }
}

#[test]
fn images_of_one_prompt_stand_together_and_seeds_count_on() {
    let plan = plan(&spec(&["a", "b"], 3), &manifest()).unwrap();
    let images: Vec<(String, u64)> =
        (0..plan.total).filter_map(|i| plan.recipe(i)).map(|r| (r.template.prompt, r.seed)).collect();
    let expected: Vec<(String, u64)> = [("a", 42), ("a", 43), ("a", 44), ("b", 45), ("b", 46), ("b", 47)]
        .map(|(p, s)| (p.to_owned(), s))
        .into();
    assert_eq!(images, expected);
    assert_eq!(plan.recipe(6), None);
}

#[test]
fn a_line_overrides_the_job_and_the_job_overrides_the_model() {
    let mut spec = spec(&["a"], 1);
    spec.settings = Settings { width: Some(128), steps: Some(10), ..Settings::default() };
    spec.prompts[0].settings.steps = Some(5);
    let template = plan(&spec, &manifest()).unwrap().lines[0].template.clone();
    assert_eq!((template.width, template.height, template.steps()), (128, 64, 5));
}

#[test]
fn each_bad_value_is_refused_with_its_value_its_limit_and_its_line() {
    type Spoil = fn(&mut JobSpec);
    let cases: [(Spoil, &str, &str); 12] = [
        (
            |s| s.prompts[1].settings.width = Some(100),
            "SIZE_NOT_A_MULTIPLE",
            "line 2: width 100 is not a multiple of 8: use 96 or 104",
        ),
        (
            |s| s.prompts[1].settings.height = Some(520),
            "SIZE_OUT_OF_RANGE",
            "line 2: height 520 is outside 8 to 512",
        ),
        (|s| s.prompts[0].settings.width = Some(0), "SIZE_OUT_OF_RANGE", "width 0 is outside 8 to 512"),
        (|s| s.settings.steps = Some(0), "STEPS_OUT_OF_RANGE", "steps 0 is outside 1 to 1000"),
        (|s| s.settings.steps = Some(1001), "STEPS_OUT_OF_RANGE", "steps 1001"),
        (|s| s.settings.guidance = Some(f64::NAN), "GUIDANCE_OUT_OF_RANGE", "guidance NaN"),
        (|s| s.settings.guidance = Some(0.5), "GUIDANCE_OUT_OF_RANGE", "guidance 0.5"),
        (|s| s.prompts[1].prompt = "x".repeat(10_001), "TEXT_TOO_LONG", "line 2: prompt is 10001 bytes long"),
        (|s| s.prompts[0].prompt = "a\0b".into(), "TEXT_HOLDS_NUL", "NUL"),
        (|s| s.prompts[1].seed = Some(1), "SEED_IGNORED", "line 2: this line has a seed"),
        (
            |s| s.seed_policy = SeedPolicy::Explicit,
            "SEED_MISSING",
            "line 1: the seed policy 'explicit' needs",
        ),
        (|s| s.terms.priority = 101, "PRIORITY_OUT_OF_RANGE", "priority 101"),
    ];
    for (spoil, code, words) in cases {
        let mut spec = spec(&["a", "b"], 1);
        spoil(&mut spec);
        let fault = plan(&spec, &manifest()).unwrap_err();
        assert_eq!(fault.code(), code);
        assert!(fault.to_string().contains(words), "'{fault}' does not say '{words}'");
    }
}

#[test]
fn a_job_without_images_or_with_too_many_is_refused() {
    assert_eq!(plan(&spec(&[], 1), &manifest()).unwrap_err(), Invalid::NoPrompts);
    assert_eq!(plan(&spec(&["a"], 0), &manifest()).unwrap_err(), Invalid::NoImages);
    assert_eq!(plan(&spec(&["a", "b"], 5_000_001), &manifest()).unwrap_err().code(), "TOO_MANY_IMAGES");
}

fn adapter(name: &str, kind: AdapterKind, family: &str) -> AdapterManifest {
    let digest = AdapterDigest::of_bytes(format!("{name}{family}").as_bytes());
    AdapterManifest { name: name.into(), kind, digest, family: Some(family.into()), bytes: 1 }
}

fn picture() -> ArtifactDigest {
    ArtifactDigest::of_bytes(b"picture")
}

fn catalogue() -> Catalogue {
    let (sd1, xl) = ("stable-diffusion", "stable-diffusion-xl");
    Catalogue {
        adapters: vec![
            adapter("ink", AdapterKind::Lora, sd1),
            adapter("twice", AdapterKind::Lora, sd1),
            adapter("twice", AdapterKind::Lora, xl),
            adapter("wide", AdapterKind::Lora, xl),
            adapter("cat-toy", AdapterKind::Embedding, sd1),
            adapter("edges", AdapterKind::Control, sd1),
        ],
        pictures: BTreeMap::from([(picture(), PictureSize { width: 64, height: 64 })]),
    }
}

fn planned(settings: &str) -> Result<RecipeTemplate, Invalid> {
    let mut spec = spec(&["a"], 1);
    spec.settings = Settings::from_json(serde_json::from_str(settings).unwrap())?;
    Ok(plan_with(&spec, &manifest(), &catalogue())?.lines[0].template.clone())
}

#[test]
fn adapters_and_pictures_are_resolved_to_digests_and_strengths_to_steps() {
    let template = planned(&format!(
        r#"{{"loras": [{{"name": "ink", "weight": 0.5}}], "embeddings": ["cat-toy"], "clip_skip": 1,
            "variation": {{"seed": "7", "strength": 0.1}},
            "source": {{"image": "{0}", "strength": 0.33}},
            "controls": [{{"name": "edges", "image": "{0}", "start": 0.1, "end": 0.5}}]}}"#,
        picture()
    ))
    .unwrap();
    let extras = &template.extras;
    let ink = adapter("ink", AdapterKind::Lora, "stable-diffusion").digest;
    assert_eq!(extras.loras, [Lora { digest: ink, weight: 0.5, text_weight: 0.5 }]);
    assert_eq!(extras.embeddings.keys().collect::<Vec<_>>(), ["cat-toy"]);
    // diffusers: 20 steps at 0.33 sample int(6.6) = 6, of which a control from 0.1 to 0.5 acts at 1 and 2.
    assert_eq!(extras.source.as_ref().unwrap().first_step, 14);
    assert_eq!((extras.controls[0].first_step, extras.controls[0].end_step), (15, 17));
    assert_eq!((template.adapters().len(), template.pictures()), (3, vec![picture()]));
    let recipe = template.with_seed(1);
    assert_eq!(Recipe::from_json(&recipe.canonical()).unwrap(), recipe);
}

#[test]
fn levels_that_do_not_follow_from_the_timesteps_are_kept() {
    let asked = r#"{"sampler": "euler", "steps": 5, "schedule": "karras"}"#;
    let template = planned(asked).unwrap();
    let sigmas = template.extras.sigmas.clone().unwrap();
    assert_eq!((sigmas.len(), sigmas[5]), (6, 0.0));
    let recipe = template.with_seed(1);
    assert_eq!(Recipe::from_json(&recipe.canonical()).unwrap(), recipe);
    let rising = recipe.canonical().replace(&format!("{}", sigmas[1]), "1e5");
    assert!(Recipe::from_json(&rising).is_err());
}

#[test]
fn what_is_not_used_leaves_no_trace_in_the_recipe() {
    let text = planned("{}").unwrap().with_seed(1).canonical();
    for key in
        ["sigmas", "eta", "guidance_rescale", "clip_skip", "loras", "source", "controls", "decode_tile"]
    {
        assert!(!text.contains(&format!("\"{key}\"")), "{key} is in {text}");
    }
}

#[test]
fn bad_adapters_and_pictures_are_refused_with_the_way_out() {
    let image = picture();
    let absent = ArtifactDigest::of_bytes(b"absent");
    let cases = [
        (r#"{"loras": [{"name": "nobody"}]}"#.to_owned(), "UNKNOWN_ADAPTER", "known are ink, twice, wide"),
        (r#"{"loras": [{"name": "wide"}]}"#.to_owned(), "OTHER_FAMILY", "made for stable-diffusion-xl"),
        (r#"{"loras": [{"name": "twice"}]}"#.to_owned(), "AMBIGUOUS_ADAPTER", "2 different loras"),
        (
            r#"{"loras": [{"name": "ink", "weight": 11}]}"#.to_owned(),
            "NUMBER_OUT_OF_RANGE",
            "11 is outside -10",
        ),
        (r#"{"source": {"image": "photo.png"}}"#.to_owned(), "UNKNOWN_PICTURE", "seedfarm upload"),
        (format!(r#"{{"source": {{"image": "{absent}"}}}}"#), "UNKNOWN_PICTURE", "not on the farm"),
        (
            format!(r#"{{"width": 128, "source": {{"image": "{image}"}}}}"#),
            "PICTURE_SIZE",
            "64x64 pixels, but the image is 128x64",
        ),
        (
            format!(r#"{{"source": {{"image": "{image}", "strength": 0.01}}}}"#),
            "NOTHING_TO_SAMPLE",
            "at least 0.05",
        ),
        (
            format!(r#"{{"source": {{"image": "{image}", "strength": 1.5}}}}"#),
            "NUMBER_OUT_OF_RANGE",
            "1.5 is outside 0 to 1",
        ),
        (r#"{"clip_skip": 12}"#.to_owned(), "NUMBER_OUT_OF_RANGE", "clip_skip 12"),
        (r#"{"decode_tile": 60}"#.to_owned(), "NUMBER_OUT_OF_RANGE", "decode_tile"),
        (r#"{"eta": -1}"#.to_owned(), "NOISE_SCHEDULE", "eta -1 is outside 0 to 1"),
        (
            r#"{"sampler": "ddim", "schedule": "karras"}"#.to_owned(),
            "NOISE_SCHEDULE",
            "choose the default one",
        ),
        (r#"{"sampler": "euler", "schedule": "cosy"}"#.to_owned(), "NOT_A_PROMPT_LINE", "cosy"),
        (r#"{"prompt_syntax": "compel"}"#.to_owned(), "NOT_A_PROMPT_LINE", "compel"),
    ];
    for (settings, code, words) in cases {
        let fault = planned(&settings).expect_err(&settings);
        assert_eq!(fault.code(), code, "{fault}");
        assert!(fault.to_string().contains(words), "'{fault}' does not say '{words}'");
    }
}

#[test]
fn a_model_that_fills_in_pictures_wants_a_mask() {
    let inpainting = ModelManifest { inpainting: true, ..manifest() };
    let mut spec = spec(&["a"], 1);
    assert_eq!(plan_with(&spec, &inpainting, &catalogue()).unwrap_err().code(), "WRONG_USE");
    let source = format!(r#"{{"source": {{"image": "{0}", "mask": "{0}"}}}}"#, picture());
    spec.settings = Settings::from_json(serde_json::from_str(&source).unwrap()).unwrap();
    let plan = plan_with(&spec, &inpainting, &catalogue()).unwrap();
    // With a mask, all of it is drawn anew unless the request says otherwise.
    assert_eq!(plan.lines[0].template.extras.source.as_ref().unwrap().first_step, 0);
}

proptest! {
    #[test]
    fn a_seed_depends_on_the_job_seed_and_the_index_only(
        seed: u64, count in 1u32..9, lines in 1usize..9, policy in 0usize..3
    ) {
        let prompts = vec!["p"; lines];
        let spec = JobSpec { seed, seed_policy: SeedPolicy::ALL[policy], ..spec(&prompts, count) };
        let whole = plan(&spec, &manifest()).unwrap();
        let alone = plan(&JobSpec { prompts: spec.prompts[..1].to_vec(), count: 1, ..spec.clone() }, &manifest()).unwrap();
        prop_assert_eq!(whole.recipe(0), alone.recipe(0));
        for index in 0..whole.total {
            let expected = SeedPolicy::ALL[policy].seed_of(seed, index, 0, None);
            prop_assert_eq!(whole.recipe(index).unwrap().seed, expected);
        }
    }
}
