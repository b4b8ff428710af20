//! DPM-Solver++ multistep for the plain and for the stochastic equation (Lu et al. 2022, arXiv:2211.01095),
//! of order 1 to 3.
//!
//! Reference: diffusers' `DPMSolverMultistepScheduler.step` with `dpmsolver++` and `sde-dpmsolver++`. What is
//! written there with exponentials of `h`, the way down in logarithms of the noise level, is here a ratio of
//! levels.

use seedfarm_core::Sampler;
use seedfarm_core::sampling::{Prediction, SolverKind};

use super::call::one_a_step;
use super::sigmas::{Sigmas, parts_of};
use super::{Call, Sampling, Settings, State, weigh};
use crate::{Error, Result};

/// Up to this many steps the last ones are of a lower order.
const FEW_STEPS: usize = 15;

/// What one step makes of latents x and of the denoised latents m0, m1 and m2, the newest first.
#[derive(Debug, Clone, Copy, Default)]
struct Weights {
    latents: f64,
    /// Of m0.
    newest: f64,
    /// Of m0 - m1.
    change: f64,
    /// Of m1 - m2.
    change_before: f64,
    noise: f64,
}

/// DPM-Solver++ for one schedule.
pub(super) struct Dpmpp2m {
    prediction: Prediction,
    sigmas: Sigmas,
    calls: Vec<Call>,
    order: usize,
    heun: bool,
    stochastic: bool,
    lower_order_final: bool,
    euler_at_final: bool,
}

impl Dpmpp2m {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let schedule = settings.schedule;
        let stochastic = settings.sampler == Sampler::Dpmpp2mSde;
        Ok(Self {
            prediction: schedule.prediction,
            sigmas: Sigmas::falling(settings, schedule.final_sigma)?,
            calls: one_a_step(settings, stochastic),
            order: order(schedule.solver.order)?,
            heun: schedule.solver.kind == SolverKind::Heun,
            stochastic,
            lower_order_final: schedule.solver.lower_order_final,
            euler_at_final: schedule.solver.euler_at_final,
        })
    }

    /// The order of a call, by what is known and what is left.
    fn order_of(&self, call: usize) -> usize {
        let (step, steps) = (self.calls[call].step, self.sigmas.steps());
        let few = self.lower_order_final && steps < FEW_STEPS;
        let most = match steps - step {
            1 if self.euler_at_final || few || self.sigmas.to(step) == 0.0 => 1,
            2 if few => 2,
            _ => self.order,
        };
        most.min(self.order).min(call + 1)
    }

    fn weights(&self, call: usize) -> Weights {
        let step = self.calls[call].step;
        let (from, to) = (self.sigmas.from(step), self.sigmas.to(step));
        let (image, noise) = parts_of(to);
        // exp(-h), and what the image gains.
        let ratio = f64::from(to) / f64::from(from);
        let (fading, gain) =
            if self.stochastic { (ratio * ratio, 1.0 - ratio * ratio) } else { (ratio, 1.0 - ratio) };
        let mut weights = Weights {
            latents: noise / parts_of(from).1 * if self.stochastic { ratio } else { 1.0 },
            newest: image * gain,
            noise: if self.stochastic { noise * (1.0 - fading).sqrt() } else { 0.0 },
            ..Weights::default()
        };
        if self.order_of(call) == 1 {
            return weights;
        }
        let fall = |step: usize| {
            libm::log(f64::from(self.sigmas.from(step))) - libm::log(f64::from(self.sigmas.to(step)))
        };
        let h = fall(step);
        // Twice as far for the stochastic equation.
        let way = if self.stochastic { 2.0 * h } else { h };
        let slope = image * (1.0 - gain / way);
        let before = fall(step - 1) / h;
        if self.order_of(call) == 2 {
            weights.change = if self.heun { slope } else { 0.5 * image * gain } / before;
            return weights;
        }
        let earlier = fall(step - 2) / h;
        let bend = if self.stochastic {
            image * ((gain - way) / (way * way) - 0.5)
        } else {
            image * ((gain - way) / (way * way) + 0.5)
        };
        let sum = before + earlier;
        weights.change = (slope * (1.0 + before / sum) + bend / sum) / before;
        weights.change_before = -(slope * before / sum + bend / sum) / earlier;
        weights
    }
}

/// The order of a multistep solver.
pub(super) fn order(given: u32) -> Result<usize> {
    match given {
        1..=3 => Ok(given as usize),
        _ => Err(Error::Recipe(format!("solver order {given} is outside 1 to 3"))),
    }
}

/// The denoised latents at noise level `sigma`, of latents with the variance of training.
pub(super) fn denoised_at(sigma: f32, kind: Prediction, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
    let (image, noise) = parts_of(sigma);
    let (image, noise) = (image as f32, noise as f32);
    let pairs = latents.iter().zip(prediction);
    match kind {
        Prediction::Epsilon => pairs.map(|(x, predicted)| (x - noise * predicted) / image).collect(),
        Prediction::VPrediction => pairs.map(|(x, predicted)| image * x - noise * predicted).collect(),
        Prediction::Sample => prediction.to_vec(),
    }
}

/// Clean latents with noise of level `sigma`, with the variance of training.
pub(super) fn noised_at(sigma: f32, clean: &[f32], noise: &[f32]) -> Vec<f32> {
    let (image, part) = parts_of(sigma);
    weigh([(image as f32, clean), (part as f32, noise)])
}

/// The elements' differences.
pub(super) fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

impl Sampling for Dpmpp2m {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn denoised(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        denoised_at(self.sigmas.from(self.calls[call].step), self.prediction, latents, prediction)
    }

    fn noised(&self, call: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let Some(call) = self.calls.get(call) else { return clean.to_vec() };
        noised_at(self.sigmas.from(call.step), clean, noise)
    }

    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], noise: &[f32]) {
        let denoised = self.denoised(call, &state.latents, prediction);
        state.keep(denoised, self.order);
        let (weights, newest) = (self.weights(call), state.newest(0));
        let mut moved = weigh([(weights.latents as f32, &state.latents), (weights.newest as f32, newest)]);
        let mut add = |weight: f64, values: &[f32]| {
            moved.iter_mut().zip(values).for_each(|(x, value)| *x += weight as f32 * value);
        };
        let order = self.order_of(call);
        if order > 1 {
            add(weights.change, &difference(newest, state.newest(1)));
        }
        if order > 2 {
            add(weights.change_before, &difference(state.newest(1), state.newest(2)));
        }
        if self.stochastic {
            add(weights.noise, noise);
        }
        state.latents = moved;
    }
}
