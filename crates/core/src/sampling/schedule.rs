//! A model's noise schedule and the choices in it.

use serde::{Deserialize, Serialize};

use super::{choice, is_default};
use crate::invalid::Invalid;

/// The curve of noise over training time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaCurve {
    /// Betas evenly spaced.
    Linear,
    /// Square roots of betas evenly spaced (Stable Diffusion).
    ScaledLinear,
    /// A squared cosine of alphas, betas cut at 0.999 (Nichol and Dhariwal 2021, arXiv:2102.09672).
    SquaredcosCapV2,
}

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity (Salimans and Ho 2022, arXiv:2202.00512).
    VPrediction,
    /// The image.
    Sample,
}

/// Where the sampling timesteps lie among the training timesteps
/// (Lin et al. 2023, arXiv:2305.08891, table 2; rounding as diffusers does it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Multiples of `train_steps / steps` (whole division) plus the offset.
    Leading,
    /// Counted back from the last training step.
    Trailing,
    /// Evenly from first to last.
    Linspace,
}

/// How noise levels are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaSchedule {
    /// Those of the timesteps.
    #[default]
    Default,
    /// Evenly spaced seventh roots (Karras et al. 2022, arXiv:2206.00364, formula 5).
    Karras,
    /// Evenly spaced logarithms.
    Exponential,
    /// Align Your Steps for Stable Diffusion 1 (Sabour et al. 2024, arXiv:2404.14507).
    AysSd,
    /// Align Your Steps for SDXL.
    AysSdxl,
}

impl SigmaSchedule {
    /// Every schedule of levels, in the order in which help texts list them.
    pub const ALL: [Self; 5] = [Self::Default, Self::Karras, Self::Exponential, Self::AysSd, Self::AysSdxl];

    /// The name in recipes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Karras => "karras",
            Self::Exponential => "exponential",
            Self::AysSd => "ays_sd",
            Self::AysSdxl => "ays_sdxl",
        }
    }

    /// What A1111-style tools print as the schedule type; nothing for the default.
    pub const fn a1111_name(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Karras => Some("Karras"),
            Self::Exponential => Some("Exponential"),
            Self::AysSd | Self::AysSdxl => Some("Align Your Steps"),
        }
    }

    /// The schedule called `name`.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        choice("sigma_schedule", name, &Self::ALL, Self::as_str)
    }
}

/// The noise level after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// None.
    #[default]
    Zero,
    /// That of the first training timestep; for euler, dpmpp_2m, dpmpp_2m_sde and unipc.
    Lowest,
}

/// The form of a solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverKind {
    /// The usual one: midpoint for dpmpp_2m and dpmpp_2m_sde, B2(h) for unipc.
    #[default]
    Default,
    /// For dpmpp_2m and dpmpp_2m_sde: as Heun's method weighs it.
    Heun,
    /// For unipc: B1(h).
    Bh1,
}

/// What a scheduler configuration may say of the solver; each sampler heeds what concerns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Solver {
    /// Order of dpmpp_2m, dpmpp_2m_sde and unipc, 1 to 3.
    #[serde(skip_serializing_if = "is_second")]
    pub order: u32,
    /// The form.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: SolverKind,
    /// Whether the last steps are of a lower order: in dpmpp_2m and dpmpp_2m_sde below 15 steps, in unipc
    /// always.
    #[serde(skip_serializing_if = "is_true")]
    pub lower_order_final: bool,
    /// Whether the last step of dpmpp_2m and dpmpp_2m_sde is of the first order for any number of steps.
    #[serde(skip_serializing_if = "is_default")]
    pub euler_at_final: bool,
    /// Whether unipc works on the noise and not on the image.
    #[serde(skip_serializing_if = "is_default")]
    pub on_noise: bool,
    /// Whether pndm begins with Runge and Kutta's method.
    #[serde(skip_serializing_if = "is_default")]
    pub runge_kutta: bool,
    /// Whether ddpm's noise has the larger of the two variances.
    #[serde(skip_serializing_if = "is_default")]
    pub large_variance: bool,
}

impl Default for Solver {
    fn default() -> Self {
        Self {
            order: 2,
            kind: SolverKind::Default,
            lower_order_final: true,
            euler_at_final: false,
            on_noise: false,
            runge_kutta: false,
            large_variance: false,
        }
    }
}

/// What latent consistency sampling was distilled with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lcm {
    /// Steps of the distillation, of which a few are used.
    pub original_steps: u32,
    /// The factor of timesteps in the boundary condition.
    pub timestep_scaling: f64,
}

impl Default for Lcm {
    fn default() -> Self {
        Self { original_steps: 50, timestep_scaling: 10.0 }
    }
}

fn is_second(order: &u32) -> bool {
    *order == 2
}

fn is_true(flag: &bool) -> bool {
    *flag
}

/// A model's noise schedule: what its `scheduler_config.json` says that moves pixels.
///
/// The fields after `set_alpha_to_one` came later and are left out of the JSON at their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseSchedule {
    /// Training timesteps, 1000 for every published Stable Diffusion.
    pub train_steps: u32,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// The curve between them.
    pub beta_curve: BetaCurve,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Where sampling timesteps lie.
    pub spacing: Spacing,
    /// Added to every timestep under [`Spacing::Leading`].
    pub steps_offset: u32,
    /// Whether the last step of ddim and pndm goes to an alpha of 1 (no noise) or to the first training
    /// alpha.
    pub set_alpha_to_one: bool,
    /// Whether betas are rescaled so that nothing is left of the image at the last timestep (Lin et al.
    /// 2023, arXiv:2305.08891, algorithm 1).
    #[serde(default, skip_serializing_if = "is_default")]
    pub zero_terminal_snr: bool,
    /// How noise levels are chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sigma_schedule: SigmaSchedule,
    /// The noise level after the last step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub final_sigma: FinalSigma,
    /// The solver's settings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub solver: Solver,
    /// What lcm was distilled with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lcm: Lcm,
}

impl Default for NoiseSchedule {
    /// That of Stable Diffusion 1.
    fn default() -> Self {
        Self {
            train_steps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_curve: BetaCurve::ScaledLinear,
            prediction: Prediction::Epsilon,
            spacing: Spacing::Leading,
            steps_offset: 1,
            set_alpha_to_one: false,
            zero_terminal_snr: false,
            sigma_schedule: SigmaSchedule::Default,
            final_sigma: FinalSigma::Zero,
            solver: Solver::default(),
            lcm: Lcm::default(),
        }
    }
}
