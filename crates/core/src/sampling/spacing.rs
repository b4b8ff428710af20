//! Where sampling timesteps lie.

use super::sampler::{Grid, Sampler};
use super::{NoiseSchedule, Spacing};
use crate::invalid::Invalid;

impl NoiseSchedule {
    /// The timesteps of [`super::SigmaSchedule::Default`], from the noisiest to the cleanest.
    ///
    /// As `set_timesteps` of the diffusers scheduler of that sampler. `steps` must be 1 to `train_steps`.
    pub(super) fn spaced(&self, sampler: Sampler, steps: u32) -> Result<Vec<f64>, Invalid> {
        if steps == 0 || steps > self.train_steps {
            return Err(Invalid::StepsOutOfRange { given: steps, most: self.train_steps });
        }
        let grid = sampler.grid();
        let timesteps = match (grid, self.spacing) {
            (Grid::Lcm, _) => return self.distilled(steps),
            (_, Spacing::Trailing) => self.trailing(steps),
            (Grid::Inner, Spacing::Leading) => self.leading(steps + 1)[..steps as usize].to_vec(),
            (_, Spacing::Leading) => self.leading(steps),
            (Grid::Whole, Spacing::Linspace) => rounded(self.linspace(steps)),
            (Grid::Points, Spacing::Linspace) => {
                self.linspace(steps).into_iter().map(|t| f64::from(t as f32)).collect()
            }
            (Grid::WidePoints, Spacing::Linspace) => self.linspace(steps),
            (Grid::Inner, Spacing::Linspace) => rounded(self.linspace(steps + 1))[..steps as usize].to_vec(),
        };
        match timesteps.windows(2).find(|pair| grid == Grid::Inner && pair[0] <= pair[1]) {
            Some(pair) => Err(Invalid::NoiseSchedule {
                reason: format!(
                    "{} has the timestep {} twice in {steps} steps: ask for fewer steps",
                    sampler.as_str(),
                    pair[0]
                ),
            }),
            None => Ok(timesteps),
        }
    }

    fn leading(&self, steps: u32) -> Vec<f64> {
        let ratio = self.train_steps / steps;
        let last = self.train_steps - 1;
        (0..steps).rev().map(|i| f64::from((i * ratio).saturating_add(self.steps_offset).min(last))).collect()
    }

    /// Rounds as numpy's `arange` does, which multiplies the first gap.
    fn trailing(&self, steps: u32) -> Vec<f64> {
        let train_steps = f64::from(self.train_steps);
        let second = train_steps - train_steps / f64::from(steps);
        let gap = second - train_steps;
        let point = |i: u32| if i == 1 { second } else { train_steps + f64::from(i) * gap };
        (0..steps).map(|i| point(i).round_ties_even() - 1.0).collect()
    }

    fn linspace(&self, steps: u32) -> Vec<f64> {
        let last = f64::from(self.train_steps - 1);
        let gap = if steps == 1 { 0.0 } else { last / f64::from(steps - 1) };
        let point = |i: u32| if i > 0 && i == steps - 1 { last } else { f64::from(i) * gap };
        (0..steps).rev().map(point).collect()
    }

    /// `steps` of the timesteps that a latent consistency model was distilled with.
    fn distilled(&self, steps: u32) -> Result<Vec<f64>, Invalid> {
        let original = self.lcm.original_steps;
        if original == 0 || original > self.train_steps {
            let reason = format!("original_steps {original} is outside 1 to {}", self.train_steps);
            return Err(Invalid::NoiseSchedule { reason });
        }
        if steps > original {
            return Err(Invalid::StepsOutOfRange { given: steps, most: original });
        }
        let gap = f64::from(original) / f64::from(steps);
        let ratio = self.train_steps / original;
        let chosen = |i: u32| (f64::from(i) * gap).floor() as u32;
        Ok((0..steps).map(|i| f64::from((original - chosen(i)) * ratio - 1)).collect())
    }
}

fn rounded(timesteps: Vec<f64>) -> Vec<f64> {
    timesteps.into_iter().map(f64::round_ties_even).collect()
}
