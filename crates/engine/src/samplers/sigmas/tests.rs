use seedfarm_core::sampling::{FinalSigma, Spacing};
use seedfarm_core::{NoiseSchedule, Sampler};

use super::*;

fn schedule(spacing: Spacing) -> NoiseSchedule {
    NoiseSchedule { spacing, ..NoiseSchedule::default() }
}

fn sigmas(schedule: &NoiseSchedule, timesteps: &[f64], given: Option<&[f64]>) -> Result<Sigmas> {
    let settings =
        Settings { sampler: Sampler::Euler, schedule, timesteps, sigmas: given, eta: None, start: 0 };
    Sigmas::new(&settings, FinalSigma::Zero)
}

fn assert_close(ours: &[f32], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((f64::from(*ours) - theirs).abs() <= 2e-6 * theirs.abs(), "{ours} against {theirs}");
    }
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
        let sigmas = sigmas(&schedule, &timesteps, None).unwrap();
        assert_close(&sigmas.levels, &expected);
        assert_close(&[sigmas.initial()], &[initial]);
    }
}

#[test]
fn a_timestep_or_level_out_of_range_is_refused() {
    let schedule = schedule(Spacing::Leading);
    for timestep in [-1.0, 1000.0, f64::NAN] {
        assert!(sigmas(&schedule, &[timestep], None).is_err(), "{timestep}");
    }
    for levels in
        [&[1.0][..], &[1.0, 2.0], &[f64::NAN, 0.0], &[1.0, -1.0], &[0.0, 0.0], &[f64::INFINITY, 0.0]]
    {
        assert!(sigmas(&schedule, &[500.0], Some(levels)).is_err(), "{levels:?}");
    }
    assert!(sigmas(&schedule, &[500.0], Some(&[2.5, 0.0])).is_ok());
}
