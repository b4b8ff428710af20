//! UniPC (Zhao et al. 2023, arXiv:2302.04867): each call first corrects the step before it.
//!
//! Reference: diffusers' `UniPCMultistepScheduler.step`, `multistep_uni_p_bh_update` and
//! `multistep_uni_c_bh_update`.

use seedfarm_core::sampling::{Prediction, SolverKind};

use super::call::one_a_step;
use super::dpmpp_2m::{denoised_at, difference, noised_at, order};
use super::sigmas::{Sigmas, parts_of};
use super::{Call, Sampling, Settings, State, weigh};
use crate::Result;

/// UniPC for one schedule.
pub(super) struct UniPc {
    prediction: Prediction,
    sigmas: Sigmas,
    calls: Vec<Call>,
    order: usize,
    /// B1(h) instead of B2(h).
    first_kind: bool,
    /// Whether the solver's outputs are noise and not denoised latents.
    on_noise: bool,
    lower_order_final: bool,
}

/// One way from one noise level to another.
struct Way {
    /// Of the latents.
    latents: f64,
    /// Of the newest output.
    newest: f64,
    /// Of the differences to it, before their own weights.
    differences: f64,
    /// What the method's order conditions must add up to.
    conditions: [f64; 3],
}

impl UniPc {
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let solver = settings.schedule.solver;
        Ok(Self {
            prediction: settings.schedule.prediction,
            sigmas: Sigmas::falling(settings, settings.schedule.final_sigma)?,
            calls: one_a_step(settings, false),
            order: order(solver.order)?,
            first_kind: solver.kind == SolverKind::Bh1,
            on_noise: solver.on_noise,
            lower_order_final: solver.lower_order_final,
        })
    }

    /// The order of a call's prediction, by what is known and what is left. A step to no noise at all is of
    /// the first order: higher ones have no finite weights there.
    fn order_of(&self, call: usize) -> usize {
        let (step, steps) = (self.calls[call].step, self.sigmas.steps());
        let left = if self.lower_order_final { steps - step } else { self.order };
        let most = if self.sigmas.to(step) == 0.0 { 1 } else { left };
        most.min(self.order).min(call + 1)
    }

    /// How far the logarithm of the noise level falls from step `a` to step `b`.
    fn fall(&self, a: usize, b: usize) -> f64 {
        libm::log(f64::from(self.sigmas.from(a))) - libm::log(f64::from(self.sigmas.from(b)))
    }

    /// The way of step `step`.
    fn way(&self, step: usize) -> Way {
        let (from, to) = (self.sigmas.from(step), self.sigmas.to(step));
        let ((image, noise), (from_image, from_noise)) = (parts_of(to), parts_of(from));
        let (from, to) = (f64::from(from), f64::from(to));
        // Of the outputs: the image's part times 1 - exp(-h), or the noise's times exp(h) - 1.
        let (gain, sign) =
            if self.on_noise { (image * (from - to), 1.0) } else { (image * (1.0 - to / from), -1.0) };
        let h = sign * if to == 0.0 { f64::INFINITY } else { libm::log(from) - libm::log(to) };
        let phi = if self.on_noise { from / to - 1.0 } else { to / from - 1.0 };
        let scale = if self.first_kind { h } else { phi };
        let kind = if self.first_kind { h / phi } else { 1.0 };
        Way {
            latents: if self.on_noise { image / from_image } else { noise / from_noise },
            newest: if self.on_noise { -gain } else { gain },
            differences: if self.on_noise { -gain * kind } else { gain * kind },
            conditions: conditions(h, phi, scale),
        }
    }

    /// Where earlier outputs lie, as parts of the way: that of `back` steps before step `step`.
    fn place(&self, step: usize, back: usize) -> f64 {
        let h = libm::log(f64::from(self.sigmas.from(step))) - libm::log(f64::from(self.sigmas.to(step)));
        -self.fall(step - back, step) / h
    }

    /// The weights of the differences to outputs 1, 2, ... steps before `step` when it is predicted.
    fn predictor(&self, step: usize, order: usize, way: &Way) -> Vec<f64> {
        let places: Vec<f64> = (1..order).map(|back| self.place(step, back)).collect();
        let shares = if order == 2 { vec![0.5] } else { solve(&places, &way.conditions) };
        shares.iter().zip(&places).map(|(share, place)| way.differences * share / place).collect()
    }

    /// The same when it is corrected; the last weight is that of the newest output's own difference.
    fn corrector(&self, step: usize, order: usize, way: &Way) -> Vec<f64> {
        let mut places: Vec<f64> = (1..order).map(|back| self.place(step, back)).collect();
        places.push(1.0);
        let shares = if order == 1 { vec![0.5] } else { solve(&places, &way.conditions) };
        shares.iter().zip(&places).map(|(share, place)| way.differences * share / place).collect()
    }

    /// What the solver works on: denoised latents or noise.
    fn output(&self, call: usize, latents: &[f32], prediction: &[f32]) -> Vec<f32> {
        if !self.on_noise {
            return self.denoised(call, latents, prediction);
        }
        let (image, noise) = parts_of(self.sigmas.from(self.calls[call].step));
        let (image, noise) = (image as f32, noise as f32);
        let pairs = latents.iter().zip(prediction);
        match self.prediction {
            Prediction::Epsilon => prediction.to_vec(),
            Prediction::VPrediction => pairs.map(|(x, predicted)| image * predicted + noise * x).collect(),
            Prediction::Sample => pairs.map(|(x, predicted)| (x - image * predicted) / noise).collect(),
        }
    }

    /// The latents before this call once more, now that the network has been asked about them.
    fn corrected(&self, call: usize, state: &State, output: &[f32]) -> Vec<f32> {
        let (step, order) = (self.calls[call].step - 1, self.order_of(call - 1));
        let way = self.way(step);
        let weights = self.corrector(step, order, &way);
        let newest = state.newest(0);
        let mut moved = weigh([(way.latents as f32, &state.kept[0]), (way.newest as f32, newest)]);
        for (back, weight) in (1..).zip(&weights[..order - 1]) {
            add(&mut moved, *weight, &difference(state.newest(back), newest));
        }
        add(&mut moved, weights[order - 1], &difference(output, newest));
        moved
    }
}

fn add(to: &mut [f32], weight: f64, values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(x, value)| *x += weight as f32 * value);
}

/// The right sides of the order conditions: `k! * phi_k(h) / B(h)` for k = 1, 2, 3, shifted as in the paper.
fn conditions(h: f64, phi: f64, scale: f64) -> [f64; 3] {
    let mut rest = phi / h - 1.0;
    let mut factorial = 1.0;
    [2.0, 3.0, 4.0].map(|next| {
        let side = rest * factorial / scale;
        factorial *= next;
        rest = rest / h - 1.0 / factorial;
        side
    })
}

/// Solves `sum over k of x[k] * places[k]^i = sides[i]` for i below the number of places, by elimination in
/// the order of the rows.
fn solve(places: &[f64], sides: &[f64; 3]) -> Vec<f64> {
    let count = places.len();
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(count);
    let mut powers = vec![1.0; count];
    for side in &sides[..count] {
        rows.push(powers.iter().copied().chain([*side]).collect());
        powers.iter_mut().zip(places).for_each(|(power, place)| *power *= place);
    }
    for pivot in 0..count {
        let (above, below) = rows.split_at_mut(pivot + 1);
        let above = &above[pivot];
        for row in below {
            let factor = row[pivot] / above[pivot];
            row.iter_mut().zip(above).skip(pivot).for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut solution = vec![0.0; count];
    for row in (0..count).rev() {
        let known: f64 = (row + 1..count).map(|column| rows[row][column] * solution[column]).sum();
        solution[row] = (rows[row][count] - known) / rows[row][row];
    }
    solution
}

impl Sampling for UniPc {
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

    /// `state.kept` holds the latents before the last step and then the solver's outputs.
    fn advance(&self, call: usize, state: &mut State, prediction: &[f32], _noise: &[f32]) {
        let output = self.output(call, &state.latents, prediction);
        let latents =
            if call > 0 { self.corrected(call, state, &output) } else { std::mem::take(&mut state.latents) };
        state.kept.drain(..usize::from(call > 0));
        state.keep(output, self.order);
        let (step, order) = (self.calls[call].step, self.order_of(call));
        let way = self.way(step);
        let newest = state.newest(0);
        let mut moved = weigh([(way.latents as f32, &latents), (way.newest as f32, newest)]);
        if order > 1 {
            for (back, weight) in (1..).zip(self.predictor(step, order, &way)) {
                add(&mut moved, weight, &difference(state.newest(back), newest));
            }
        }
        state.latents = moved;
        state.kept.insert(0, latents);
    }
}
