use super::*;

fn schedule(spacing: Spacing, steps_offset: u32) -> NoiseSchedule {
    NoiseSchedule {
        train_steps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_curve: BetaCurve::ScaledLinear,
        prediction: Prediction::Epsilon,
        spacing,
        steps_offset,
        set_alpha_to_one: false,
    }
}

// The vectors below were printed by diffusers 0.42.1:
//   for S in (DDIMScheduler, EulerDiscreteScheduler): for sp in ('leading','trailing','linspace'):
//     s = S(beta_schedule='scaled_linear', timestep_spacing=sp, steps_offset=1); s.set_timesteps(7)
//     print(S.__name__, sp, s.timesteps.tolist())
#[test]
fn timesteps_are_those_of_diffusers_when_steps_do_not_divide_the_training_steps() {
    let cases: [(Sampler, Spacing, [f64; 7]); 6] = [
        (Sampler::Ddim, Spacing::Leading, [853.0, 711.0, 569.0, 427.0, 285.0, 143.0, 1.0]),
        (Sampler::Ddim, Spacing::Trailing, [999.0, 856.0, 713.0, 570.0, 428.0, 285.0, 142.0]),
        (Sampler::Ddim, Spacing::Linspace, [999.0, 832.0, 666.0, 500.0, 333.0, 166.0, 0.0]),
        (Sampler::Euler, Spacing::Leading, [853.0, 711.0, 569.0, 427.0, 285.0, 143.0, 1.0]),
        (Sampler::Euler, Spacing::Trailing, [999.0, 856.0, 713.0, 570.0, 428.0, 285.0, 142.0]),
        (Sampler::Euler, Spacing::Linspace, [999.0, 832.5, 666.0, 499.5, 333.0, 166.5, 0.0]),
    ];
    for (sampler, spacing, expected) in cases {
        let timesteps = schedule(spacing, 1).timesteps(sampler, 7).unwrap();
        assert_eq!(timesteps, expected, "{sampler:?} {spacing:?}");
    }
}

#[test]
fn twenty_leading_steps_start_at_951_and_end_at_1() {
    let timesteps = schedule(Spacing::Leading, 1).timesteps(Sampler::Ddim, 20).unwrap();
    assert_eq!((timesteps[0], timesteps[19], timesteps.len()), (951.0, 1.0, 20));
}

#[test]
fn no_steps_and_too_many_steps_are_refused_with_the_limit() {
    for steps in [0, 1001] {
        let error = schedule(Spacing::Leading, 1).timesteps(Sampler::Ddim, steps).unwrap_err();
        assert!(error.to_string().contains("1 to 1000"), "{error}");
    }
}

#[test]
fn an_unknown_sampler_is_refused_with_the_list() {
    let error = Sampler::from_name("eluer").unwrap_err().to_string();
    assert!(error.contains("'eluer'") && error.contains("ddim, euler, euler_ancestral"), "{error}");
    assert_eq!(Sampler::from_name("euler_a").unwrap(), Sampler::EulerAncestral);
}
