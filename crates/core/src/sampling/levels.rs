//! Noise levels: those of the timesteps, or chosen first and the timesteps after them.

use super::sampler::{Grid, Sampler};
use super::{BetaCurve, FinalSigma, NoiseSchedule, SigmaSchedule};
use crate::invalid::Invalid;

/// The published timesteps of Align Your Steps, of 1000 training timesteps and for 10 steps
/// (<https://research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html>; `AysSchedules` of diffusers).
const AYS_SD: [f64; 10] = [999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0];
const AYS_SDXL: [f64; 10] = [999.0, 845.0, 730.0, 587.0, 443.0, 310.0, 193.0, 116.0, 53.0, 13.0];
const AYS_TRAIN_STEPS: u32 = 1000;
/// Karras and others' exponent.
const RHO: f64 = 7.0;

/// What a recipe keeps of a schedule for some number of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The timesteps to sample at, from the noisiest to the cleanest, one a step.
    pub timesteps: Vec<f64>,
    /// The noise levels before each step and after the last, where they do not follow from the timesteps.
    pub sigmas: Option<Vec<f64>>,
}

/// Levels before each step, and the timesteps where they were given with them.
struct Chosen {
    levels: Vec<f64>,
    timesteps: Option<Vec<f64>>,
}

impl NoiseSchedule {
    /// The schedule for one sampler, with the levels that a request asks for. A model's own choice of levels
    /// does not concern a sampler that works on timesteps.
    #[must_use]
    pub fn in_force(&self, sampler: Sampler, asked: Option<SigmaSchedule>) -> Self {
        let own = if sampler.takes_sigmas() { self.sigma_schedule } else { SigmaSchedule::Default };
        Self { sigma_schedule: asked.unwrap_or(own), ..self.clone() }
    }

    /// The timesteps, and the noise levels where they do not follow from them.
    ///
    /// As `set_timesteps` of the diffusers scheduler of that sampler.
    ///
    /// Errors: steps outside 1 to `train_steps` (or, for lcm, to those of its distillation); a schedule out
    /// of range; a schedule of levels for a sampler that works on timesteps.
    pub fn resolve(&self, sampler: Sampler, steps: u32) -> Result<Resolved, Invalid> {
        let spaced = self.spaced(sampler, steps)?;
        let chosen = self.sigma_schedule;
        if chosen == SigmaSchedule::Default {
            return Ok(Resolved { timesteps: spaced, sigmas: None });
        }
        if !sampler.takes_sigmas() {
            let reason = format!(
                "{} works on timesteps and has no {} schedule: choose the default one, or another sampler",
                sampler.as_str(),
                chosen.as_str()
            );
            return Err(Invalid::NoiseSchedule { reason });
        }
        self.levels_first(sampler, &spaced)
    }

    /// The timesteps alone; see [`Self::resolve`].
    pub fn timesteps(&self, sampler: Sampler, steps: u32) -> Result<Vec<f64>, Invalid> {
        self.resolve(sampler, steps).map(|resolved| resolved.timesteps)
    }

    fn levels_first(&self, sampler: Sampler, spaced: &[f64]) -> Result<Resolved, Invalid> {
        let trained: Vec<f64> = self.sigmas()?.into_iter().map(f64::from).collect();
        let most = trained.len() - 1;
        // diffusers takes the range of levels from the timesteps, or for some samplers from training.
        let ends = if sampler.grid() == Grid::Inner {
            (trained[most], trained[0])
        } else {
            (level(&trained, spaced[0]), level(&trained, spaced[spaced.len() - 1]))
        };
        let steps = spaced.len();
        let Chosen { levels, timesteps } = match self.sigma_schedule {
            SigmaSchedule::Default => Chosen {
                levels: spaced.iter().map(|t| level(&trained, *t)).collect(),
                timesteps: Some(spaced.to_vec()),
            },
            SigmaSchedule::Karras => Chosen { levels: karras(ends, steps), timesteps: None },
            SigmaSchedule::Exponential => Chosen { levels: exponential(ends, steps), timesteps: None },
            SigmaSchedule::AysSd => self.aligned(&AYS_SD, &trained, steps)?,
            SigmaSchedule::AysSdxl => self.aligned(&AYS_SDXL, &trained, steps)?,
        };
        let timesteps = timesteps.unwrap_or_else(|| self.timesteps_of(sampler, &levels, &trained));
        let last = match (self.final_sigma, sampler) {
            (FinalSigma::Zero, _) | (_, Sampler::EulerAncestral | Sampler::Heun | Sampler::DpmppSde) => 0.0,
            (FinalSigma::Lowest, _) => trained[0],
        };
        let sigmas = levels.into_iter().chain([last]).map(|level| f64::from(level as f32)).collect();
        Ok(Resolved { timesteps, sigmas: Some(sigmas) })
    }

    /// Align Your Steps: the published timesteps for 10 steps, and for any other number levels between
    /// theirs and that of the first training timestep, evenly by their logarithms.
    fn aligned(&self, table: &[f64; 10], trained: &[f64], steps: usize) -> Result<Chosen, Invalid> {
        if self.train_steps != AYS_TRAIN_STEPS {
            let reason = format!(
                "{} is made for {AYS_TRAIN_STEPS} training timesteps, and this schedule has {}",
                self.sigma_schedule.as_str(),
                self.train_steps
            );
            return Err(Invalid::NoiseSchedule { reason });
        }
        let levels: Vec<f64> = table.iter().map(|t| level(trained, *t)).collect();
        if steps == table.len() {
            return Ok(Chosen { levels, timesteps: Some(table.to_vec()) });
        }
        let logarithms: Vec<f64> =
            levels.iter().chain([&trained[0]]).map(|level| libm::log(*level)).collect();
        let scale = (logarithms.len() - 1) as f64 / steps as f64;
        let between = |step: usize| libm::exp(level(&logarithms, step as f64 * scale));
        Ok(Chosen { levels: (0..steps).map(between).collect(), timesteps: None })
    }

    /// The timestep of a noise level between 1e-10 and infinity: a point between training timesteps, by the
    /// logarithms of their levels.
    ///
    /// Errors: a schedule out of range.
    pub fn timesteps_at(&self, sigmas: &[f64]) -> Result<Vec<f64>, Invalid> {
        let logarithms: Vec<f32> =
            self.sigmas()?.iter().map(|level| libm::log(f64::from(*level)) as f32).collect();
        Ok(sigmas.iter().map(|sigma| timestep_of(libm::log(*sigma), &logarithms)).collect())
    }

    /// The timestep of each chosen level, as the sampler needs it.
    fn timesteps_of(&self, sampler: Sampler, levels: &[f64], trained: &[f64]) -> Vec<f64> {
        let logarithms: Vec<f32> = trained.iter().map(|level| libm::log(*level) as f32).collect();
        let exact = levels.iter().map(|level| timestep_of(libm::log(level.max(1e-10)), &logarithms));
        let whole = |t: f64| {
            let cut = match (self.sigma_schedule, sampler) {
                (SigmaSchedule::Exponential, _) => true,
                (SigmaSchedule::Karras, Sampler::UniPc) => false,
                (SigmaSchedule::Karras, _) => self.beta_curve == BetaCurve::SquaredcosCapV2,
                _ => false,
            };
            if cut { t.floor() } else { t.round_ties_even() }
        };
        match sampler.grid() {
            Grid::Inner => exact.map(whole).collect(),
            _ => exact.map(|t| f64::from(t as f32)).collect(),
        }
    }
}

/// The value at a point between those of a table, in a straight line; `at` is inside the table.
fn level(table: &[f64], at: f64) -> f64 {
    let below = at.floor();
    let index = (below as usize).min(table.len() - 1);
    let next = table.get(index + 1).unwrap_or(&table[index]);
    (next - table[index]) * (at - below) + table[index]
}

/// `_sigma_to_t` of diffusers: `logarithms` are f32, as they are there.
fn timestep_of(logarithm: f64, logarithms: &[f32]) -> f64 {
    let above = logarithms.partition_point(|&low| f64::from(low) <= logarithm);
    let low = above.saturating_sub(1).min(logarithms.len() - 2);
    let gap = logarithms[low] - logarithms[low + 1];
    let share = ((f64::from(logarithms[low]) - logarithm) / f64::from(gap)).clamp(0.0, 1.0);
    (1.0 - share) * low as f64 + share * (low + 1) as f64
}

/// Point `i` of `count` from 0 to 1.
fn ramp(i: usize, count: usize) -> f64 {
    match i {
        0 => 0.0,
        i if i + 1 == count => 1.0,
        i => i as f64 * (1.0 / (count - 1) as f64),
    }
}

fn karras((highest, lowest): (f64, f64), steps: usize) -> Vec<f64> {
    let (high, low) = (libm::pow(highest, 1.0 / RHO), libm::pow(lowest, 1.0 / RHO));
    (0..steps).map(|i| libm::pow(high + ramp(i, steps) * (low - high), RHO)).collect()
}

fn exponential((highest, lowest): (f64, f64), steps: usize) -> Vec<f64> {
    let (high, low) = (libm::log(highest), libm::log(lowest));
    let gap = if steps == 1 { 0.0 } else { (low - high) / (steps - 1) as f64 };
    let point = |i: usize| if i > 0 && i + 1 == steps { low } else { i as f64 * gap + high };
    (0..steps).map(|i| libm::exp(point(i))).collect()
}

/// Holds a recipe's noise levels against its number of steps: one more, each finite and below the one
/// before it, and none below 0 (the last may equal the one before it, or be 0).
pub fn check_levels(sigmas: &[f64], steps: usize) -> Result<(), Invalid> {
    let refuse = |reason: String| Err(Invalid::NoiseSchedule { reason });
    if sigmas.len() != steps + 1 {
        return refuse(format!("{} sigmas do not fit {steps} steps, which need {}", sigmas.len(), steps + 1));
    }
    if let Some(bad) = sigmas.iter().find(|sigma| !(0.0..=1e6).contains(*sigma)) {
        return refuse(format!("sigma {bad} is outside 0 to 1000000"));
    }
    let falls =
        |(index, pair): (usize, &[f64])| pair[1] < pair[0] || (index + 1 == steps && pair[1] == pair[0]);
    match sigmas.windows(2).enumerate().find(|&(index, pair)| pair[0] == 0.0 || !falls((index, pair))) {
        Some((index, pair)) => {
            refuse(format!("sigmas {} and {} of step {index} do not fall towards 0", pair[0], pair[1]))
        }
        None => Ok(()),
    }
}
