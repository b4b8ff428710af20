//! `scheduler/scheduler_config.json`: the noise schedule that the model was trained with.

use seedfarm_core::sampling::{
    BetaCurve, FinalSigma, Lcm, Prediction, SigmaSchedule, Solver, SolverKind, Spacing,
};
use seedfarm_core::{NoiseSchedule, Sampler};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::Result;
use crate::source::Family;

/// diffusers' `StableDiffusionPipeline` puts `steps_offset` to 1 and `clip_sample` to false when it loads a
/// model, whatever the file says, because early files of Stable Diffusion had them wrong. Its pipeline for
/// SDXL does not.
const PIPELINE_STEPS_OFFSET: u32 = 1;

/// What the file says: the schedule, and the sampler that the model comes with.
#[derive(Debug)]
pub(crate) struct SchedulerConfig {
    pub noise_schedule: NoiseSchedule,
    pub sampler: Sampler,
}

/// A diffusers class: its sampler and its defaults.
struct Class {
    sampler: Sampler,
    spacing: &'static str,
    /// First and last beta, and the curve between them.
    betas: (f64, f64, &'static str),
    set_alpha_to_one: bool,
    skip_prk_steps: bool,
}

/// Reads and bounds the file. Defaults are those of the diffusers class that it names; a class whose
/// sampler is not here lends its schedule to DDIM.
pub(crate) fn read(file: &ConfigFile, family: Family) -> Result<SchedulerConfig> {
    refuse_unsupported(file)?;
    let class = class(file)?;
    let train_steps = file.count("num_train_timesteps", Some(1000), 2..=100_000)?;
    let (beta_start, beta_end, curve) = class.betas;
    let noise_schedule = NoiseSchedule {
        train_steps: train_steps as u32,
        beta_start: file.number("beta_start", beta_start, 1e-9..=0.999)?,
        beta_end: file.number("beta_end", beta_end, 1e-9..=0.999)?,
        beta_curve: choose(
            file,
            "beta_schedule",
            curve,
            &[
                ("linear", BetaCurve::Linear),
                ("scaled_linear", BetaCurve::ScaledLinear),
                ("squaredcos_cap_v2", BetaCurve::SquaredcosCapV2),
            ],
        )?,
        prediction: choose(
            file,
            "prediction_type",
            "epsilon",
            &[
                ("epsilon", Prediction::Epsilon),
                ("v_prediction", Prediction::VPrediction),
                ("sample", Prediction::Sample),
            ],
        )?,
        spacing: choose(
            file,
            "timestep_spacing",
            class.spacing,
            &[
                ("leading", Spacing::Leading),
                ("trailing", Spacing::Trailing),
                ("linspace", Spacing::Linspace),
            ],
        )?,
        steps_offset: steps_offset(file, family)?,
        set_alpha_to_one: file.flag("set_alpha_to_one", class.set_alpha_to_one)?,
        zero_terminal_snr: file.flag("rescale_betas_zero_snr", false)?,
        sigma_schedule: sigma_schedule(file)?,
        final_sigma: choose(
            file,
            "final_sigmas_type",
            "zero",
            &[("zero", FinalSigma::Zero), ("sigma_min", FinalSigma::Lowest)],
        )?,
        solver: solver(file, &class)?,
        lcm: Lcm {
            original_steps: file.count("original_inference_steps", Some(50), 1..=train_steps)? as u32,
            timestep_scaling: file.number("timestep_scaling", 10.0, 1e-3..=1e6)?,
        },
    };
    Ok(SchedulerConfig { noise_schedule, sampler: class.sampler })
}

fn class(file: &ConfigFile) -> Result<Class> {
    let ddim = Class {
        sampler: Sampler::Ddim,
        spacing: "leading",
        betas: (0.0001, 0.02, "linear"),
        set_alpha_to_one: true,
        skip_prk_steps: true,
    };
    let on_levels = |sampler| Class { sampler, spacing: "linspace", ..ddim };
    // These two have Stable Diffusion's betas, and yet a straight line between them.
    let second_order = |sampler| Class { betas: (0.00085, 0.012, "linear"), ..on_levels(sampler) };
    Ok(match file.text("_class_name", "DDIMScheduler")? {
        "DDPMScheduler" => Class { sampler: Sampler::Ddpm, ..ddim },
        "EulerDiscreteScheduler" => on_levels(Sampler::Euler),
        "EulerAncestralDiscreteScheduler" => on_levels(Sampler::EulerAncestral),
        "HeunDiscreteScheduler" => second_order(Sampler::Heun),
        "DPMSolverSDEScheduler" => second_order(Sampler::DpmppSde),
        "DPMSolverMultistepScheduler" => on_levels(multistep(file)?),
        "UniPCMultistepScheduler" => on_levels(Sampler::UniPc),
        "LCMScheduler" => Class { sampler: Sampler::Lcm, betas: (0.00085, 0.012, "scaled_linear"), ..ddim },
        "PNDMScheduler" => {
            Class { sampler: Sampler::Pndm, set_alpha_to_one: false, skip_prk_steps: false, ..ddim }
        }
        _ => ddim,
    })
}

/// Which equation `DPMSolverMultistepScheduler` solves.
fn multistep(file: &ConfigFile) -> Result<Sampler> {
    choose(
        file,
        "algorithm_type",
        "dpmsolver++",
        &[
            ("dpmsolver++", Sampler::Dpmpp2m),
            ("sde-dpmsolver++", Sampler::Dpmpp2mSde),
            // As diffusers takes it.
            ("deis", Sampler::Dpmpp2m),
        ],
    )
}

fn steps_offset(file: &ConfigFile, family: Family) -> Result<u32> {
    match family {
        Family::StableDiffusion => Ok(PIPELINE_STEPS_OFFSET),
        Family::StableDiffusionXl => {
            file.only("clip_sample", &[Value::Bool(false)])?;
            Ok(file.count("steps_offset", Some(0), 0..=1000)? as u32)
        }
    }
}

fn sigma_schedule(file: &ConfigFile) -> Result<SigmaSchedule> {
    match (file.flag("use_karras_sigmas", false)?, file.flag("use_exponential_sigmas", false)?) {
        (true, true) => {
            Err(file.fault("use_exponential_sigmas", "is true, and so is use_karras_sigmas: one of them"))
        }
        (true, false) => Ok(SigmaSchedule::Karras),
        (false, true) => Ok(SigmaSchedule::Exponential),
        (false, false) => Ok(SigmaSchedule::Default),
    }
}

fn solver(file: &ConfigFile, class: &Class) -> Result<Solver> {
    let usual = SolverKind::Default;
    let kinds = [
        ("midpoint", usual),
        ("heun", SolverKind::Heun),
        ("bh1", SolverKind::Bh1),
        ("bh2", usual),
        ("logrho", usual),
    ];
    Ok(Solver {
        order: file.count("solver_order", Some(2), 1..=3)? as u32,
        kind: choose(file, "solver_type", "midpoint", &kinds)?,
        lower_order_final: file.flag("lower_order_final", true)?,
        euler_at_final: file.flag("euler_at_final", false)?,
        on_noise: !file.flag("predict_x0", true)?,
        runge_kutta: !file.flag("skip_prk_steps", class.skip_prk_steps)?,
        large_variance: large_variance(file, class)?,
    })
}

fn large_variance(file: &ConfigFile, class: &Class) -> Result<bool> {
    if class.sampler != Sampler::Ddpm {
        return Ok(false);
    }
    choose(file, "variance_type", "fixed_small", &[("fixed_small", false), ("fixed_large", true)])
}

fn choose<T: Copy>(file: &ConfigFile, key: &str, default: &'static str, choices: &[(&str, T)]) -> Result<T> {
    let name = file.text(key, default)?;
    choices.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        file.fault(key, format!("is '{name}': {} are supported", known.join(" and ")))
    })
}

/// Keys that change the schedule or the solver and are not computed here.
fn refuse_unsupported(file: &ConfigFile) -> Result<()> {
    for key in ["trained_betas", "sigma_min", "sigma_max", "solver_p", "lambda_min_clipped"] {
        file.only(key, &[])?;
    }
    for key in
        ["thresholding", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"]
    {
        file.only(key, &[Value::Bool(false)])?;
    }
    file.only("disable_corrector", &[json!([])])?;
    file.only("interpolation_type", &[json!("linear")])?;
    file.only("timestep_type", &[json!("discrete")])
}
