//! What to draw, and how.

use clap::Args;
use seedfarm_core::plan::Settings;
use seedfarm_core::sampling::SigmaSchedule;
use seedfarm_core::{Invalid, NoiseSource, Numerics, Sampler};

/// Settings that the model's defaults fill where they are left open.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// What to avoid
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,

    /// Width in pixels
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u32>,

    /// Height in pixels
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u32>,

    /// Sampling steps
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,

    /// Classifier-free guidance scale, 1 to 100; 1 is off
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    pub guidance: Option<f64>,

    /// Sampler: ddim, ddpm, euler, euler_ancestral, heun, dpmpp_2m, dpmpp_2m_sde, dpmpp_sde, lcm, unipc or
    /// pndm
    #[arg(long, value_name = "NAME", value_parser = Sampler::from_name)]
    pub sampler: Option<Sampler>,

    /// How noise levels are chosen: default (the model's own), karras, exponential, ays_sd or ays_sdxl
    #[arg(long, value_name = "NAME", value_parser = SigmaSchedule::from_name)]
    pub schedule: Option<SigmaSchedule>,
}

impl SettingsArgs {
    /// In core's form.
    pub fn settings(&self) -> Settings {
        Settings {
            negative_prompt: self.negative_prompt.clone(),
            width: self.width,
            height: self.height,
            steps: self.steps,
            guidance: self.guidance,
            sampler: self.sampler,
            schedule: self.schedule,
            ..Settings::default()
        }
    }
}

/// How numbers are computed and where noise comes from.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Settings")]
pub struct ArithmeticArgs {
    /// strict (the same bits on every machine) or fast (the same bits within a numeric class)
    #[arg(long, value_name = "CLASS", default_value = "strict", value_parser = Numerics::from_name)]
    pub numerics: Numerics,

    /// Source of noise: philox, or torch-cpu or torch-cuda for what PyTorch draws from the same seed
    #[arg(long, value_name = "SOURCE", default_value = "philox", value_parser = NoiseSource::from_name)]
    pub noise: NoiseSource,
}

/// Reads a seed, for the command line.
pub fn seed(text: &str) -> Result<u64, Invalid> {
    seedfarm_core::seed::parse_seed(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingsArgs,
        #[command(flatten)]
        arithmetic: ArithmeticArgs,
    }

    #[test]
    fn the_help_names_every_sampler_schedule_and_source_of_noise() {
        let help = Line::command().term_width(1000).render_long_help().to_string();
        let samplers = Sampler::ALL.map(Sampler::as_str);
        for name in samplers.into_iter().chain(NoiseSource::ALL.map(NoiseSource::as_str)) {
            assert!(help.contains(name), "{name} is missing from {help}");
        }
    }
}
