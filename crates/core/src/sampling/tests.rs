use super::*;

fn schedule(spacing: Spacing, steps_offset: u32) -> NoiseSchedule {
    NoiseSchedule { spacing, steps_offset, ..NoiseSchedule::default() }
}

fn assert_close(ours: &[f32], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((f64::from(*ours) - theirs).abs() <= 2e-6 * theirs.abs(), "{ours} against {theirs}");
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
    assert!(error.contains("'eluer'") && error.contains("ddim, ddpm, euler, euler_ancestral"), "{error}");
    assert_eq!(Sampler::from_name("euler_a").unwrap(), Sampler::EulerAncestral);
}

// Printed by diffusers 0.42.1 with torch 2.15.0:
//   s = DDIMScheduler(beta_schedule=curve, beta_start=a, beta_end=b)
//   [float(s.alphas_cumprod[i]) for i in (0, 1, 143, 499, 951, 999)]
#[test]
fn alphas_are_those_of_diffusers() {
    let at = |alphas: &[f32]| [0, 1, 143, 499, 951, 999].map(|index| alphas[index]);
    let scaled = schedule(Spacing::Leading, 1).alphas().unwrap();
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
        ..schedule(Spacing::Leading, 1)
    };
    assert_close(
        &at(&linear.alphas().unwrap()),
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

#[test]
fn a_schedule_out_of_range_is_refused() {
    let good = schedule(Spacing::Leading, 1);
    let zero = NoiseSchedule { train_steps: 0, ..good.clone() };
    let endless = NoiseSchedule { train_steps: u32::MAX, ..good.clone() };
    let nan = NoiseSchedule { beta_start: f64::NAN, ..good.clone() };
    let falling = NoiseSchedule { beta_end: 0.0001, ..good };
    for bad in [zero, endless, nan, falling] {
        assert!(bad.alphas().is_err() && bad.sigmas().is_err(), "{bad:?}");
    }
}

#[test]
fn a_schedule_without_the_later_fields_is_written_as_before_them() {
    let old = "{\"train_steps\":1000,\"beta_start\":0.00085,\"beta_end\":0.012,\"beta_curve\":\"scaled_linear\",\
               \"prediction\":\"epsilon\",\"spacing\":\"leading\",\"steps_offset\":1,\"set_alpha_to_one\":false}";
    let read: NoiseSchedule = serde_json::from_str(old).unwrap();
    assert_eq!(read, NoiseSchedule::default());
    assert_eq!(serde_json::to_string(&read).unwrap(), old);
}

#[test]
fn every_later_field_survives_being_written_and_read() {
    let schedule = NoiseSchedule {
        zero_terminal_snr: true,
        sigma_schedule: SigmaSchedule::AysSdxl,
        final_sigma: FinalSigma::Lowest,
        solver: Solver {
            order: 3,
            kind: SolverKind::Bh1,
            lower_order_final: false,
            euler_at_final: true,
            on_noise: true,
            runge_kutta: true,
            large_variance: true,
        },
        lcm: Lcm { original_steps: 100, timestep_scaling: 5.0 },
        ..NoiseSchedule::default()
    };
    let written = serde_json::to_string(&schedule).unwrap();
    assert_eq!(serde_json::from_str::<NoiseSchedule>(&written).unwrap(), schedule);
    for unknown in ["\"order\":3,\"extra\":1", "\"order\":-1"] {
        assert!(serde_json::from_str::<NoiseSchedule>(&written.replace("\"order\":3", unknown)).is_err());
    }
}

#[test]
fn an_eta_is_a_number_from_0_to_1_for_a_sampler_that_has_one() {
    assert_eq!(Sampler::Ddim.eta(None), Ok(0.0));
    assert_eq!(Sampler::EulerAncestral.eta(None), Ok(1.0));
    assert_eq!(Sampler::Ddim.eta(Some(0.5)), Ok(0.5));
    for eta in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = Sampler::Ddim.eta(Some(eta)).unwrap_err().to_string();
        assert!(error.contains("0 to 1") && error.contains(&eta.to_string()), "{error}");
    }
    let error = Sampler::Heun.eta(Some(0.0)).unwrap_err().to_string();
    assert!(error.contains("heun") && error.contains("ddim and euler_ancestral"), "{error}");
}

#[test]
fn a_schedule_of_levels_needs_a_sampler_on_levels_and_fitting_steps() {
    let karras = NoiseSchedule { sigma_schedule: SigmaSchedule::Karras, ..NoiseSchedule::default() };
    assert!(karras.in_force(Sampler::Ddim, None).resolve(Sampler::Ddim, 20).unwrap().sigmas.is_none());
    assert!(karras.in_force(Sampler::Euler, None).resolve(Sampler::Euler, 20).unwrap().sigmas.is_some());
    let karras = karras.in_force(Sampler::Ddim, Some(SigmaSchedule::Karras));
    let error = karras.resolve(Sampler::Ddim, 20).unwrap_err().to_string();
    assert!(error.contains("ddim") && error.contains("karras"), "{error}");
    let short =
        NoiseSchedule { train_steps: 500, sigma_schedule: SigmaSchedule::AysSd, ..NoiseSchedule::default() };
    assert!(short.resolve(Sampler::Euler, 10).unwrap_err().to_string().contains("500"));
    let error = NoiseSchedule::default().resolve(Sampler::Lcm, 51).unwrap_err().to_string();
    assert!(error.contains("51") && error.contains("50"), "{error}");
    let error = NoiseSchedule::default().resolve(Sampler::UniPc, 1000).unwrap_err().to_string();
    assert!(error.contains("twice"), "{error}");
    for sampler in Sampler::ALL {
        for steps in [0, 1001, u32::MAX] {
            assert!(NoiseSchedule::default().resolve(sampler, steps).is_err(), "{sampler:?} {steps}");
        }
    }
}

#[test]
fn every_sampler_is_found_by_its_name() {
    for sampler in Sampler::ALL {
        assert_eq!(Sampler::from_name(sampler.as_str()), Ok(sampler));
        assert_eq!(serde_json::to_value(sampler).unwrap(), sampler.as_str());
    }
    for schedule in SigmaSchedule::ALL {
        assert_eq!(SigmaSchedule::from_name(schedule.as_str()), Ok(schedule));
        assert_eq!(serde_json::to_value(schedule).unwrap(), schedule.as_str());
    }
}
