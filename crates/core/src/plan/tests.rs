use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::digest::ComponentDigest;
use crate::model::ModelDefaults;
use crate::sampling::{BetaCurve, NoiseSchedule, Prediction, Spacing};

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
        },
        defaults: ModelDefaults { width: 64, height: 64, steps: 20, guidance: 3.0, sampler: Sampler::Ddim },
        size_multiple: 8,
        max_side: 512,
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
        priority: 0,
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
        (|s| s.priority = 101, "PRIORITY_OUT_OF_RANGE", "priority 101"),
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
