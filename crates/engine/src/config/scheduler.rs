//! `scheduler/scheduler_config.json`: the noise schedule that the model was trained with.

use seedfarm_core::sampling::{BetaCurve, Prediction, Spacing};
use seedfarm_core::{NoiseSchedule, Sampler};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::Result;

/// diffusers' `StableDiffusionPipeline` puts `steps_offset` to 1 and `clip_sample` to false when it loads a
/// model, whatever the file says, because early files of Stable Diffusion had them wrong.
const PIPELINE_STEPS_OFFSET: u32 = 1;

/// What the file says: the schedule, and the sampler that the model comes with.
#[derive(Debug)]
pub(crate) struct SchedulerConfig {
    pub noise_schedule: NoiseSchedule,
    pub sampler: Sampler,
}

/// Reads and bounds the file. Defaults are those of the diffusers class that it names; a class whose
/// sampler is not here lends its schedule to DDIM.
pub(crate) fn read(file: &ConfigFile) -> Result<SchedulerConfig> {
    refuse_unsupported(file)?;
    let class = file.text("_class_name", "DDIMScheduler")?;
    let (sampler, spacing) = match class {
        "EulerDiscreteScheduler" => (Sampler::Euler, "linspace"),
        "EulerAncestralDiscreteScheduler" => (Sampler::EulerAncestral, "linspace"),
        _ => (Sampler::Ddim, "leading"),
    };
    let train_steps = file.count("num_train_timesteps", Some(1000), 2..=100_000)?;
    let noise_schedule = NoiseSchedule {
        train_steps: train_steps as u32,
        beta_start: file.number("beta_start", 0.0001, 1e-9..=0.999)?,
        beta_end: file.number("beta_end", 0.02, 1e-9..=0.999)?,
        beta_curve: choose(
            file,
            "beta_schedule",
            "linear",
            &[("linear", BetaCurve::Linear), ("scaled_linear", BetaCurve::ScaledLinear)],
        )?,
        prediction: choose(
            file,
            "prediction_type",
            "epsilon",
            &[("epsilon", Prediction::Epsilon), ("v_prediction", Prediction::VPrediction)],
        )?,
        spacing: choose(
            file,
            "timestep_spacing",
            spacing,
            &[
                ("leading", Spacing::Leading),
                ("trailing", Spacing::Trailing),
                ("linspace", Spacing::Linspace),
            ],
        )?,
        steps_offset: PIPELINE_STEPS_OFFSET,
        // DDIM is the one sampler that asks, and this is its default.
        set_alpha_to_one: file.flag("set_alpha_to_one", true)?,
    };
    Ok(SchedulerConfig { noise_schedule, sampler })
}

fn choose<T: Copy>(file: &ConfigFile, key: &str, default: &'static str, choices: &[(&str, T)]) -> Result<T> {
    let name = file.text(key, default)?;
    choices.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        file.fault(key, format!("is '{name}': {} are supported", known.join(" and ")))
    })
}

/// Keys that change the schedule and are not computed here.
fn refuse_unsupported(file: &ConfigFile) -> Result<()> {
    file.only("trained_betas", &[])?;
    for key in [
        "thresholding",
        "rescale_betas_zero_snr",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
    ] {
        file.only(key, &[Value::Bool(false)])?;
    }
    file.only("interpolation_type", &[json!("linear")])?;
    file.only("timestep_type", &[json!("discrete")])?;
    file.only("final_sigmas_type", &[json!("zero")])
}
