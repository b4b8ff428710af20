//! The samplers that a recipe may name.

use serde::{Deserialize, Serialize};

use super::choice;
use crate::invalid::Invalid;

/// How latents are taken from noise to image.
///
/// The arithmetic lives in the engine, a file a sampler; this list is what a recipe may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// DDIM (Song et al. 2020, arXiv:2010.02502); takes noise where eta is not 0.
    Ddim,
    /// DDPM (Ho et al. 2020, arXiv:2006.11239) on fewer steps than it was trained with.
    Ddpm,
    /// Euler's method (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without churn).
    Euler,
    /// Euler with ancestral noise, as k-diffusion's `sample_euler_ancestral`.
    EulerAncestral,
    /// Heun's method (Karras et al. 2022, algorithm 2 without churn); two calls a step.
    Heun,
    /// DPM-Solver++ multistep (Lu et al. 2022, arXiv:2211.01095).
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
    /// The same for the stochastic equation.
    #[serde(rename = "dpmpp_2m_sde")]
    Dpmpp2mSde,
    /// DPM-Solver++ for the stochastic equation with a midpoint, as k-diffusion's `sample_dpmpp_sde`; two
    /// calls and two draws of noise a step.
    DpmppSde,
    /// Latent consistency sampling (Luo et al. 2023, arXiv:2310.04378).
    Lcm,
    /// UniPC (Zhao et al. 2023, arXiv:2302.04867).
    #[serde(rename = "unipc")]
    UniPc,
    /// Pseudo linear multistep (Liu et al. 2022, arXiv:2202.09778), also called PLMS.
    Pndm,
}

/// By which of diffusers' rules a sampler's timesteps lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    /// Whole timesteps.
    Whole,
    /// Points between timesteps too, as f32.
    Points,
    /// The same, as f64.
    WidePoints,
    /// Whole timesteps that leave the cleanest one out.
    Inner,
    /// A selection of those of the distillation.
    Lcm,
}

impl Sampler {
    /// Every sampler, in the order in which help texts list them.
    pub const ALL: [Self; 11] = [
        Self::Ddim,
        Self::Ddpm,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::Dpmpp2m,
        Self::Dpmpp2mSde,
        Self::DpmppSde,
        Self::Lcm,
        Self::UniPc,
        Self::Pndm,
    ];

    /// The sampler's name in recipes and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Ddpm => "ddpm",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler_ancestral",
            Self::Heun => "heun",
            Self::Dpmpp2m => "dpmpp_2m",
            Self::Dpmpp2mSde => "dpmpp_2m_sde",
            Self::DpmppSde => "dpmpp_sde",
            Self::Lcm => "lcm",
            Self::UniPc => "unipc",
            Self::Pndm => "pndm",
        }
    }

    /// The name that A1111-style tools print.
    pub const fn a1111_name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIM",
            Self::Ddpm => "DDPM",
            Self::Euler => "Euler",
            Self::EulerAncestral => "Euler a",
            Self::Heun => "Heun",
            Self::Dpmpp2m => "DPM++ 2M",
            Self::Dpmpp2mSde => "DPM++ 2M SDE",
            Self::DpmppSde => "DPM++ SDE",
            Self::Lcm => "LCM",
            Self::UniPc => "UniPC",
            Self::Pndm => "PLMS",
        }
    }

    /// The sampler called `name`; `euler_a` and `plms` are understood too.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        let name = match name {
            "euler_a" => "euler_ancestral",
            "plms" => "pndm",
            name => name,
        };
        choice("sampler", name, &Self::ALL, Self::as_str)
    }

    /// The eta that the sampler uses when a recipe names none; `None` where it has no such setting.
    pub const fn default_eta(self) -> Option<f64> {
        match self {
            Self::Ddim => Some(0.0),
            Self::EulerAncestral => Some(1.0),
            _ => None,
        }
    }

    /// The eta in force: how much of a step's noise is fresh, 0 to 1.
    ///
    /// Errors: an eta that is no number from 0 to 1, or one for a sampler that has no such setting.
    pub fn eta(self, given: Option<f64>) -> Result<f64, Invalid> {
        let reason = match (given, self.default_eta()) {
            (None, default) => return Ok(default.unwrap_or(0.0)),
            (Some(eta), Some(_)) if (0.0..=1.0).contains(&eta) => return Ok(eta),
            (Some(eta), Some(_)) => format!("eta {eta} is outside 0 to 1"),
            (Some(eta), None) => {
                let with: Vec<&str> =
                    Self::ALL.iter().filter(|s| s.default_eta().is_some()).map(|s| s.as_str()).collect();
                format!("eta {eta} is given, but {} has none; {} have", self.as_str(), with.join(" and "))
            }
        };
        Err(Invalid::NoiseSchedule { reason })
    }

    /// Whether the sampler works on noise levels, so that a [`super::SigmaSchedule`] can choose them.
    pub const fn takes_sigmas(self) -> bool {
        !matches!(self.grid(), Grid::Whole | Grid::Lcm)
    }

    pub(super) const fn grid(self) -> Grid {
        match self {
            Self::Ddim | Self::Ddpm | Self::Pndm => Grid::Whole,
            Self::Euler | Self::EulerAncestral | Self::Heun => Grid::Points,
            Self::DpmppSde => Grid::WidePoints,
            Self::Dpmpp2m | Self::Dpmpp2mSde | Self::UniPc => Grid::Inner,
            Self::Lcm => Grid::Lcm,
        }
    }
}
