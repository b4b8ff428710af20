//! Pseudo linear multistep sampling (Liu et al. 2022, arXiv:2202.09778), also called PLMS.
//!
//! Reference: diffusers' `PNDMScheduler`. The first step is taken twice, the second time with the mean of
//! the predictions at both ends; or, with `runge_kutta`, the first three steps are Runge and Kutta's.

use seedfarm_core::sampling::Prediction;

use super::alphas::{Alphas, Parts};
use super::{Call, Sampling, Settings, State, weigh};
use crate::{Error, Result};

/// Steps that Runge and Kutta's method takes, and the calls of each.
const RUNGE_KUTTA: (usize, usize) = (3, 4);
/// Predictions that are remembered.
const REMEMBERED: usize = 4;

/// Which mean of the predictions a call goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mean {
    /// The first step for the first time.
    First,
    /// The first step again.
    Again,
    /// Adams and Bashforth's of so many predictions, the newest among them.
    Multistep(usize),
    /// Runge and Kutta's call 0 to 3.
    RungeKutta(usize),
}

/// One call's move.
#[derive(Debug, Clone, Copy)]
struct Move {
    mean: Mean,
    /// The parts at the call's own timestep.
    here: Parts,
    /// The parts where the move begins.
    from: Parts,
    /// Of the latents and of the noise.
    latents: f32,
    noise: f32,
}

/// PNDM for one schedule.
pub(super) struct Pndm {
    prediction: Prediction,
    moves: Vec<Move>,
    calls: Vec<Call>,
}

/// Where calls and moves come from.
struct Planner<'a> {
    alphas: Alphas,
    timesteps: &'a [f64],
    stride: f64,
    last: f32,
}

impl Pndm {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let Settings { schedule, timesteps, start, .. } = *settings;
        if schedule.prediction == Prediction::Sample {
            return Err(Error::Recipe("pndm cannot work with a network that predicts the image".to_owned()));
        }
        let alphas = Alphas::new(settings)?;
        let planner = Planner {
            last: alphas.last(schedule.set_alpha_to_one),
            alphas,
            timesteps,
            stride: f64::from(schedule.train_steps / timesteps.len() as u32),
        };
        let plan = if schedule.solver.runge_kutta {
            planner.runge_kutta(start)?
        } else {
            planner.multistep(start)?
        };
        let (calls, moves) = plan.into_iter().unzip();
        Ok(Self { prediction: schedule.prediction, moves, calls })
    }

    /// The mean of this call's prediction and those before it, and whether it is of the step's beginning.
    fn mean(&self, mean: Mean, state: &mut State, prediction: &[f32]) -> Vec<f32> {
        match mean {
            Mean::First => {
                state.kept = vec![state.latents.clone(), prediction.to_vec()];
                prediction.to_vec()
            }
            Mean::Again => {
                let both = weigh([(1.0, prediction), (1.0, state.newest(0))]);
                both.into_iter().map(|sum| sum / 2.0).collect()
            }
            Mean::Multistep(known) => {
                state.keep(prediction.to_vec(), REMEMBERED);
                let back = |back: usize| state.newest(back);
                match known {
                    1 => prediction.to_vec(),
                    2 => weigh([(1.5, back(0)), (-0.5, back(1))]),
                    3 => weigh([(part(23, 12), back(0)), (part(-16, 12), back(1)), (part(5, 12), back(2))]),
                    _ => weigh([
                        (part(55, 24), back(0)),
                        (part(-59, 24), back(1)),
                        (part(37, 24), back(2)),
                        (part(-9, 24), back(3)),
                    ]),
                }
            }
            Mean::RungeKutta(call) => self.runge_kutta_mean(call, state, prediction),
        }
    }

    /// While Runge and Kutta's method is at work `state.kept` ends with the latents before the step and the
    /// mean so far.
    fn runge_kutta_mean(&self, call: usize, state: &mut State, prediction: &[f32]) -> Vec<f32> {
        if call == 0 {
            state.kept.push(prediction.to_vec());
            state.kept.push(state.latents.clone());
            state.kept.push(weigh([(part(1, 6), prediction)]));
            return prediction.to_vec();
        }
        let so_far = state.kept.pop().expect("call 0 left the mean so far");
        let share = if call == 3 { part(1, 6) } else { part(1, 3) };
        let mean = weigh([(1.0, &so_far), (share, prediction)]);
        if call == 3 {
            return mean;
        }
        state.kept.push(mean);
        prediction.to_vec()
    }
}

/// A fraction, rounded once.
fn part(numerator: i32, denominator: i32) -> f32 {
    (f64::from(numerator) / f64::from(denominator)) as f32
}

impl Planner<'_> {
    /// The calls without Runge and Kutta: the second timestep comes twice. Where steps are left out the same
    /// number of calls is, and the first two that remain take the first step, as diffusers has it.
    fn multistep(&self, start: usize) -> Result<Vec<(Call, Move)>> {
        let count = self.timesteps.len();
        let twice = if count > 1 { 1..2 } else { 0..0 };
        let places: Vec<usize> = (0..count.min(2)).chain(twice).chain(2..count).skip(start).collect();
        let plan = places.iter().enumerate().map(|(index, place)| {
            let timestep = self.timesteps[*place];
            let (step, mean, from, to) = match index {
                0 => (0, Mean::First, timestep, timestep - self.stride),
                1 => (0, Mean::Again, timestep + self.stride, timestep),
                index => (index - 1, Mean::Multistep(index.min(4)), timestep, timestep - self.stride),
            };
            let ends_step = index > 0 || places.len() == 1;
            let call = Call { step: start + step, timestep, ends_step, draw: None };
            Ok((call, self.step(mean, timestep, from, to)?))
        });
        plan.collect()
    }

    fn runge_kutta(&self, start: usize) -> Result<Vec<(Call, Move)>> {
        let (steps, calls) = RUNGE_KUTTA;
        if start > 0 || self.timesteps.len() <= steps {
            return Err(Error::Recipe(format!(
                "pndm that begins with Runge and Kutta's method needs more than {steps} steps, and none left \
                 out: there are {} and {start} are left out",
                self.timesteps.len()
            )));
        }
        let half = (self.stride / 2.0).floor();
        let mut plan = Vec::new();
        for step in 0..steps {
            let (from, next) = (self.timesteps[step], self.timesteps[step + 1]);
            let middle = next + half;
            let moves = [(from, from - half), (middle, middle), (middle, middle - half), (next, next)];
            for (index, (timestep, to)) in moves.into_iter().enumerate() {
                let call = Call { step, timestep, ends_step: index + 1 == calls, draw: None };
                plan.push((call, self.step(Mean::RungeKutta(index), timestep, from, to)?));
            }
        }
        for (step, &timestep) in self.timesteps.iter().enumerate().skip(steps) {
            let call = Call { step, timestep, ends_step: true, draw: None };
            plan.push((call, self.step(Mean::Multistep(4), timestep, timestep, timestep - self.stride)?));
        }
        Ok(plan)
    }

    /// The move from timestep `from` to timestep `to`, or past the first one to the end.
    fn step(&self, mean: Mean, here: f64, from: f64, to: f64) -> Result<Move> {
        let a = f64::from(self.alphas.at(from)?);
        if a == 0.0 {
            return Err(Error::Recipe(format!(
                "at timestep {from} nothing is left of the image, where pndm cannot start: use another spacing \
                 or sampler"
            )));
        }
        let b = f64::from(if to < 0.0 { self.last } else { self.alphas.at(to)? });
        let noise = (a - b) / (a * (1.0 - b).sqrt() + (a * (1.0 - a) * b).sqrt());
        Ok(Move {
            mean,
            here: self.alphas.parts(here)?,
            from: self.alphas.parts(from)?,
            latents: (b / a).sqrt() as f32,
            noise: noise as f32,
        })
    }
}

impl Sampling for Pndm {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        self.moves[call].here.denoised(latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        if call == self.calls.len() { clean.to_vec() } else { self.moves[call].here.noised(clean, noise) }
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], _noise: &[f32]) {
        let step = self.moves[call];
        let mean = self.mean(step.mean, state, prediction);
        let latents = match step.mean {
            Mean::First | Mean::Multistep(_) => std::mem::take(&mut state.latents),
            Mean::Again => state.kept.remove(0),
            Mean::RungeKutta(3) => state.kept.pop().expect("call 0 left the latents before the step"),
            Mean::RungeKutta(_) => state.newest(1).to_vec(),
        };
        let noise = match self.prediction {
            Prediction::VPrediction => weigh([(step.from.image, &mean), (step.from.noise, &latents)]),
            _ => mean,
        };
        state.latents = weigh([(step.latents, &latents), (step.noise, &noise)]);
    }
}
