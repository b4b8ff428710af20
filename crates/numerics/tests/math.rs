//! The elementary functions against f64 over sweeps of all magnitudes.

use seedfarm_numerics::math;

/// The distance of `value` from `exact` in units of the last place of an f32 near `exact`.
fn ulps(value: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if nearest.is_infinite() || value.is_infinite() {
        return if value == nearest { 0.0 } else { f64::INFINITY };
    }
    let exponent = nearest.abs().max(f32::MIN_POSITIVE).to_bits() >> 23;
    let ulp = 2f64.powi(exponent as i32 - 150);
    ((f64::from(value) - exact) / ulp).abs()
}

/// Every `step`th f32 of both signs, and the infinities.
fn sweep(step: usize) -> impl Iterator<Item = f32> {
    let sizes = (0..=f32::INFINITY.to_bits()).step_by(step).chain([f32::INFINITY.to_bits()]);
    sizes.flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
}

fn worst(ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, step: usize) -> (f64, f32) {
    sweep(step).fold((0.0, 0.0), |worst, x| {
        let error = ulps(ours(x), exact(f64::from(x)));
        assert!(!error.is_nan(), "x = {x:e} gives {}", ours(x));
        if error > worst.0 { (error, x) } else { worst }
    })
}

fn assert_within(limit: f64, (error, x): (f64, f32)) {
    println!("worst error {error:.4} ulp at {x:e}");
    assert!(error <= limit, "{error} ulp at x = {x:e}, the limit is {limit}");
}

/// About a million points for each sign.
const STEP: usize = 2039;

#[test]
fn exp_is_within_1_ulp() {
    assert_within(1.0, worst(math::exp, libm::exp, STEP));
}

#[test]
fn sigmoid_is_within_3_ulp() {
    let above = |x: f64| if x < -88.72 { 0.0 } else { 1.0 / (1.0 + libm::exp(-x)) };
    assert_within(3.0, worst(math::sigmoid, above, STEP));
}

#[test]
fn tanh_is_within_2_ulp() {
    assert_within(2.0, worst(math::tanh, libm::tanh, STEP));
}

#[test]
fn erf_is_within_2_ulp() {
    assert_within(2.0, worst(math::erf, libm::erf, STEP));
}

#[test]
fn sin_and_cos_are_within_1_ulp() {
    let finite = |f: fn(f32) -> f32| move |x: f32| if x.is_finite() { f(x) } else { 0.0 };
    let exact = |f: fn(f64) -> f64| move |x: f64| if x.is_finite() { f(x) } else { 0.0 };
    assert_within(1.0, worst(finite(math::sin), exact(libm::sin), STEP));
    assert_within(1.0, worst(finite(math::cos), exact(libm::cos), STEP));
}

#[test]
fn special_values_give_special_values() {
    let nan = f32::NAN;
    for f in [math::exp, math::sigmoid, math::tanh, math::erf, math::sin, math::cos] {
        assert!(f(nan).is_nan());
        assert!(f(-nan).is_nan());
    }
    assert!(math::sin(f32::INFINITY).is_nan());
    assert!(math::cos(f32::NEG_INFINITY).is_nan());
    for f in [math::tanh, math::erf, math::sin] {
        assert_eq!(f(-0.0).to_bits(), (-0.0f32).to_bits(), "the sign of zero is kept");
    }
    assert_eq!(math::exp(0.0), 1.0);
    assert_eq!(math::exp(f32::NEG_INFINITY).to_bits(), 0);
    assert_eq!(math::sigmoid(f32::NEG_INFINITY), 0.0);
    assert_eq!(math::tanh(f32::INFINITY), 1.0);
    assert_eq!(math::erf(f32::NEG_INFINITY), -1.0);
    let smallest = f32::from_bits(1);
    assert_eq!(math::tanh(smallest), smallest);
    assert_eq!(math::sin(-smallest), -smallest);
}
