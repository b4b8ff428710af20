use seedfarm_core::sampling::{Prediction, Spacing};
use seedfarm_core::{NoiseSchedule, Sampler};

use super::*;

fn schedule(spacing: Spacing) -> NoiseSchedule {
    NoiseSchedule {
        train_steps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_curve: BetaCurve::ScaledLinear,
        prediction: Prediction::Epsilon,
        spacing,
        steps_offset: 1,
        set_alpha_to_one: false,
    }
}

fn assert_close(ours: &[f32], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((f64::from(*ours) - theirs).abs() <= 2e-6 * theirs.abs(), "{ours} against {theirs}");
    }
}

// Printed by diffusers 0.42.1 with torch 2.15.0:
//   s = DDIMScheduler(beta_schedule=curve, beta_start=a, beta_end=b)
//   [float(s.alphas_cumprod[i]) for i in (0, 1, 143, 499, 951, 999)]
#[test]
fn alphas_are_those_of_diffusers() {
    let at = |alphas: &[f32]| [0, 1, 143, 499, 951, 999].map(|index| alphas[index]);
    let scaled = alphas_cumprod(&schedule(Spacing::Leading)).unwrap();
    assert_close(
        &at(&scaled),
        &[
            0.9991499781608582,
            0.9982960224151611,
            0.8376103639602661,
            0.27766942977905273,
            0.008154998533427715,
            0.00466009508818388,
        ],
    );
    let linear = NoiseSchedule {
        beta_curve: BetaCurve::Linear,
        beta_start: 0.0001,
        beta_end: 0.02,
        ..schedule(Spacing::Leading)
    };
    assert_close(
        &at(&alphas_cumprod(&linear).unwrap()),
        &[
            0.9998999834060669,
            0.9997800588607788,
            0.8027494549751282,
            0.07858723402023315,
            0.00010402238694950938,
            4.035830352222547e-05,
        ],
    );
}

// Printed by diffusers 0.42.1, the same for EulerDiscreteScheduler and EulerAncestralDiscreteScheduler:
//   e = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=.00085, beta_end=.012,
//                              timestep_spacing=spacing, steps_offset=1)
//   e.set_timesteps(7); [float(x) for x in e.sigmas], float(e.init_noise_sigma)
#[test]
fn sigmas_are_those_of_diffusers() {
    let cases: [(Spacing, [f64; 8], f64); 3] = [
        (
            Spacing::Leading,
            [
                6.570651531219482,
                3.4854564666748047,
                2.0473127365112305,
                1.2720634937286377,
                0.7900615334510803,
                0.4403095841407776,
                0.04131447896361351,
                0.0,
            ],
            6.6463117599487305,
        ),
        (
            Spacing::Trailing,
            [
                14.614646911621094,
                6.668572902679443,
                3.5138795375823975,
                2.054476737976074,
                1.276235818862915,
                0.7900615334510803,
                0.43806231021881104,
                0.0,
            ],
            14.614646911621094,
        ),
        (
            Spacing::Linspace,
            [
                14.614646911621094,
                5.948918342590332,
                2.9183084964752197,
                1.6155834197998047,
                0.9323583841323853,
                0.49355348944664,
                0.02916753478348255,
                0.0,
            ],
            14.614646911621094,
        ),
    ];
    for (spacing, expected, initial) in cases {
        let schedule = schedule(spacing);
        let timesteps = schedule.timesteps(Sampler::Euler, 7).unwrap();
        let sigmas = Sigmas::new(&schedule, &timesteps).unwrap();
        assert_close(&sigmas.levels, &expected);
        assert_close(&[sigmas.initial()], &[initial]);
    }
}

#[test]
fn a_schedule_or_timestep_out_of_range_is_refused() {
    let good = schedule(Spacing::Leading);
    let zero = NoiseSchedule { train_steps: 0, ..good.clone() };
    let endless = NoiseSchedule { train_steps: u32::MAX, ..good.clone() };
    let nan = NoiseSchedule { beta_start: f64::NAN, ..good.clone() };
    let falling = NoiseSchedule { beta_end: 0.0001, ..good.clone() };
    for bad in [zero, endless, nan, falling] {
        assert!(alphas_cumprod(&bad).is_err(), "{bad:?}");
    }
    for timestep in [-1.0, 1000.0, f64::NAN] {
        assert!(Sigmas::new(&good, &[timestep]).is_err(), "{timestep}");
    }
}
