//! Numbers that no sampler can work with, and numbers at the edge of those that it can.

use seedfarm_core::sampling::{Prediction, Solver, Spacing};

use super::*;

fn settings<'a>(sampler: Sampler, schedule: &'a NoiseSchedule, timesteps: &'a [f64]) -> Settings<'a> {
    Settings { sampler, schedule, timesteps, sigmas: None, eta: None, start: 0 }
}

#[track_caller]
fn refuses(settings: &Settings<'_>, words: &[&str]) {
    let Err(error) = sampling(settings) else { panic!("{settings:?} is accepted") };
    let error = error.to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn timesteps_outside_training_are_refused_by_every_sampler() {
    let schedule = NoiseSchedule::default();
    for sampler in Sampler::ALL {
        for timestep in [-1.0, 1000.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            refuses(&settings(sampler, &schedule, &[timestep, 1.0]), &["999"]);
        }
    }
}

#[test]
fn points_between_timesteps_are_refused_by_samplers_on_whole_ones() {
    let schedule = NoiseSchedule::default();
    for sampler in Sampler::ALL.into_iter().filter(|sampler| !sampler.takes_sigmas()) {
        refuses(&settings(sampler, &schedule, &[500.5]), &["500.5", sampler.as_str()]);
    }
}

#[test]
fn no_steps_or_none_that_are_left_are_refused() {
    let schedule = NoiseSchedule::default();
    for sampler in Sampler::ALL {
        refuses(&settings(sampler, &schedule, &[]), &["0 of 0 steps"]);
        refuses(&Settings { start: 2, ..settings(sampler, &schedule, &[500.0, 1.0]) }, &["2 of 2 steps"]);
        refuses(
            &Settings { start: usize::MAX, ..settings(sampler, &schedule, &[500.0, 1.0]) },
            &["of 2 steps"],
        );
    }
}

#[test]
fn levels_that_do_not_fall_are_refused_by_samplers_that_divide_by_their_fall() {
    let schedule = NoiseSchedule::default();
    for sampler in [Sampler::Heun, Sampler::Dpmpp2m, Sampler::Dpmpp2mSde, Sampler::DpmppSde, Sampler::UniPc] {
        refuses(&settings(sampler, &schedule, &[500.0, 500.0, 1.0]), &["do not fall"]);
        refuses(&settings(sampler, &schedule, &[1.0, 500.0]), &["do not fall"]);
    }
    for levels in
        [&[3.0, 4.0, 0.0][..], &[3.0, 0.0, 0.0], &[3.0, f64::NAN, 0.0], &[3.0, -1.0, 0.0], &[3.0, 1.0]]
    {
        for sampler in Sampler::ALL.into_iter().filter(|sampler| sampler.takes_sigmas()) {
            let settings = Settings { sigmas: Some(levels), ..settings(sampler, &schedule, &[500.0, 1.0]) };
            refuses(&settings, &["sigma"]);
        }
    }
    let levels =
        Settings { sigmas: Some(&[3.0, 1.0, 0.0]), ..settings(Sampler::Ddim, &schedule, &[500.0, 1.0]) };
    refuses(&levels, &["ddim", "sigmas"]);
}

#[test]
fn etas_orders_and_beginnings_out_of_range_are_refused() {
    let schedule = NoiseSchedule::default();
    for eta in [-1.0, 1.5, f64::NAN] {
        refuses(&Settings { eta: Some(eta), ..settings(Sampler::Ddim, &schedule, &[1.0]) }, &["0 to 1"]);
    }
    refuses(&Settings { eta: Some(0.5), ..settings(Sampler::Heun, &schedule, &[1.0]) }, &["heun"]);
    for order in [0, 4, u32::MAX] {
        let schedule = NoiseSchedule { solver: Solver { order, ..Solver::default() }, ..schedule.clone() };
        for sampler in [Sampler::Dpmpp2m, Sampler::UniPc] {
            refuses(&settings(sampler, &schedule, &[500.0, 1.0]), &[&order.to_string(), "1 to 3"]);
        }
    }
    let kutta = NoiseSchedule { solver: Solver { runge_kutta: true, ..Solver::default() }, ..schedule };
    refuses(&settings(Sampler::Pndm, &kutta, &[500.0, 300.0, 1.0]), &["more than 3 steps"]);
}

#[test]
fn a_start_without_any_image_is_refused_where_it_would_divide_by_nothing() {
    let schedule =
        NoiseSchedule { zero_terminal_snr: true, spacing: Spacing::Trailing, ..NoiseSchedule::default() };
    for sampler in [Sampler::Ddim, Sampler::Ddpm, Sampler::Lcm, Sampler::Pndm] {
        refuses(&settings(sampler, &schedule, &[999.0, 499.0]), &["999", "nothing is left"]);
    }
    let velocity = NoiseSchedule { prediction: Prediction::VPrediction, ..schedule };
    assert!(sampling(&settings(Sampler::Ddim, &velocity, &[999.0, 499.0])).is_ok());
    refuses(&settings(Sampler::Pndm, &velocity, &[999.0, 499.0]), &["pndm"]);
}

#[test]
fn every_sampler_ends_finite_from_one_step_to_many_with_a_network_that_says_nothing() {
    for sampler in Sampler::ALL {
        for steps in [1, 2, 3, 4, 15, 40] {
            let schedule = NoiseSchedule::default();
            let timesteps = schedule.timesteps(sampler, steps).unwrap();
            let plan = sampling(&settings(sampler, &schedule, &timesteps)).unwrap();
            let ended: Vec<usize> =
                plan.calls().iter().filter(|call| call.ends_step).map(|call| call.step).collect();
            assert_eq!(ended, (0..steps as usize).collect::<Vec<_>>(), "{sampler:?}");
            let mut state = State::new(vec![plan.initial_scale(); 4]);
            for (index, call) in plan.calls().iter().enumerate() {
                let noise = call.draw.map_or_else(Vec::new, |_| vec![0.5; 4]);
                plan.advance(index, &mut state, &[0.0; 4], &noise);
            }
            assert!(state.latents.iter().all(|x| x.is_finite()), "{sampler:?} {steps}");
        }
    }
}

#[test]
fn draws_of_steps_are_numbered_without_gap_or_repetition() {
    for sampler in Sampler::ALL {
        let schedule = NoiseSchedule::default();
        let timesteps = schedule.timesteps(sampler, 6).unwrap();
        let whole = sampling(&settings(sampler, &schedule, &timesteps)).unwrap();
        let draws: Vec<u32> = whole.calls().iter().filter_map(|call| call.draw).collect();
        assert_eq!(draws, (1..=draws.len() as u32).collect::<Vec<_>>(), "{sampler:?}");
        let late = sampling(&Settings { start: 2, ..settings(sampler, &schedule, &timesteps) }).unwrap();
        for call in late.calls().iter().filter(|call| call.draw.is_some()) {
            let same = |other: &&Call| (other.step, other.timestep) == (call.step, call.timestep);
            assert_eq!(whole.calls().iter().find(same).unwrap().draw, call.draw, "{sampler:?}");
        }
    }
}
