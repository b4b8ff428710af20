//! Elementary functions on `f32`, made of IEEE-exact operations only, so that every CPU and GPU
//! gives the same bits.
//!
//! The coefficients come from `tests/golden/fit_polynomials.py`. Each function gives the nearest
//! sensible value at infinities and NaN for NaN; its largest error is stated and tested.

use crate::simd::{Scalar, Simd};

/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the sum.
const TO_INTEGER: f32 = 12_582_912.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -0.000_212_194_44;

/// `sum of c[i] * x^i` by Horner's rule in fused multiply-adds.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut sum = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(c[i]));
    }
    sum
}

#[inline(always)]
pub(crate) fn exp_v<S: Simd>(s: S, x: S::V) -> S::V {
    let to_integer = s.splat(TO_INTEGER);
    let (high, low) = (s.splat(89.0), s.splat(-104.0));
    let x = s.greater(low, s.lesser(high, x));
    let n = s.sub(s.fma(x, s.splat(LOG2_E), to_integer), to_integer);
    let r = s.fma(n, s.splat(-LN_2_HIGH), x);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let q = polynomial(s, r, [0.499_999_94, 0.166_665_21, 0.041_668_274, 0.008_368_686, 0.001_382_013_6]);
    let e = s.add(s.splat(1.0), s.fma(s.mul(r, r), q, r));
    s.times_power_of_two(e, n)
}

#[inline(always)]
pub(crate) fn sigmoid_v<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp_v(s, s.sub(s.splat(0.0), x))))
}

#[inline(always)]
pub(crate) fn tanh_v<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.abs(x);
    let square = s.mul(t, t);
    let p = polynomial(
        s,
        square,
        [-0.333_333_3, 0.133_332_21, -0.053_948_186, 0.021_706_993, -0.008_190_414, 0.002_153_193_8],
    );
    let small = s.fma(s.mul(square, p), t, t);
    let one = s.splat(1.0);
    let two = s.splat(2.0);
    let large = s.sub(one, s.div(two, s.add(exp_v(s, s.mul(two, t)), one)));
    s.with_sign(s.if_gt(t, s.splat(0.625), large, small), x)
}

#[inline(always)]
pub(crate) fn erf_v<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.abs(x);
    let small = polynomial(
        s,
        s.mul(t, t),
        [
            0.128_379_17,
            -0.376_126_3,
            0.112_836_26,
            -0.026_855_728,
            0.005_192_377_6,
            -0.000_804_919_05,
            7.992_930_5e-5,
        ],
    );
    let small = s.fma(small, t, t);
    let four = s.splat(4.0);
    let log_erfc = polynomial(
        s,
        s.if_gt(t, four, four, t),
        [
            0.000_175_874_61,
            -1.129_520_8,
            -0.633_334_9,
            -0.108_293_54,
            0.025_128_24,
            -0.004_174_444_4,
            0.000_435_166_2,
            -2.115_632e-5,
        ],
    );
    let large = s.sub(s.splat(1.0), exp_v(s, log_erfc));
    s.with_sign(s.if_gt(t, s.splat(0.921_875), large, small), x)
}

/// e^x within 1 ulp; exact overflow to infinity and gradual underflow to 0.
#[must_use]
pub fn exp(x: f32) -> f32 {
    exp_v(Scalar, x)
}

/// 1 / (1 + e^-x) within 3 ulp; 0 below -88.72, where e^-x overflows and the exact value is
/// subnormal.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    sigmoid_v(Scalar, x)
}

/// The hyperbolic tangent within 2 ulp.
#[must_use]
pub fn tanh(x: f32) -> f32 {
    tanh_v(Scalar, x)
}

/// The error function within 2 ulp.
#[must_use]
pub fn erf(x: f32) -> f32 {
    erf_v(Scalar, x)
}

/// The sine within 1 ulp for every finite `x`; NaN for infinities.
#[must_use]
pub fn sin(x: f32) -> f32 {
    if x == 0.0 {
        return x;
    }
    quarter_wave(x, 0)
}

/// The cosine within 1 ulp for every finite `x`; NaN for infinities.
#[must_use]
pub fn cos(x: f32) -> f32 {
    quarter_wave(x, 1)
}

/// sin(x + quarters * pi / 2)
fn quarter_wave(x: f32, quarters: u32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    let (quadrant, r) = reduce(x);
    let square = r * r;
    let turned = quadrant.wrapping_add(quarters);
    let size = if turned & 1 == 0 { r * taylor(square, &SIN) } else { taylor(square, &COS) };
    (if turned & 2 == 0 { size } else { -size }) as f32
}

/// 1/1!, -1/3!, 1/5!, ...: on [-pi/4, pi/4] what is left out is below 2^-50.
const SIN: [f64; 7] = [
    1.0,
    -1.0 / 6.0,
    1.0 / 120.0,
    -1.0 / 5_040.0,
    1.0 / 362_880.0,
    -1.0 / 39_916_800.0,
    1.0 / 6_227_020_800.0,
];

/// 1/0!, -1/2!, 1/4!, ...
const COS: [f64; 8] = [
    1.0,
    -0.5,
    1.0 / 24.0,
    -1.0 / 720.0,
    1.0 / 40_320.0,
    -1.0 / 3_628_800.0,
    1.0 / 479_001_600.0,
    -1.0 / 87_178_291_200.0,
];

/// Horner's rule, each step a product and a sum, each rounded.
fn taylor(square: f64, c: &[f64]) -> f64 {
    c.iter().rev().fold(0.0, |sum, &c| sum * square + c)
}

/// The first 256 binary digits of 2/pi after the point.
const TWO_OVER_PI: [u64; 4] =
    [0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041, 0xfe51_63ab_debb_c561];

/// 128 of those digits from index `start` on, with zeros before the first.
fn two_over_pi(start: i32) -> u128 {
    let word = |i: i32| {
        let digits = usize::try_from(i).ok().and_then(|i| TWO_OVER_PI.get(i));
        u128::from(digits.copied().unwrap_or(0))
    };
    let (first, offset) = (start.div_euclid(64), start.rem_euclid(64));
    let whole = word(first) << 64 | word(first + 1);
    whole << offset | word(first + 2) << offset >> 64
}

/// A finite x as (quadrant, r) with x = quadrant * pi/2 + r modulo 2 pi and |r| <= pi/4, by an
/// integer product with the digits of 2/pi (Payne and Hanek, 1983).
fn reduce(x: f32) -> (u32, f64) {
    if x.abs() <= std::f32::consts::FRAC_PI_4 {
        return (0, f64::from(x));
    }
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 150; // |x| = mantissa * 2^exponent
    let mantissa = u128::from(bits & 0x7f_ffff | 0x80_0000);
    // |x| * 2/pi modulo 4 in units of 2^-126; digits worth 4 and more are left out.
    let turns = mantissa.wrapping_mul(two_over_pi(exponent - 2));
    let nearest = turns.wrapping_add(1 << 125) >> 126;
    let rest = turns.wrapping_sub(nearest << 126) as i128;
    let r = rest as f64 * (std::f64::consts::FRAC_PI_2 / (1u128 << 126) as f64);
    let quadrant = nearest as u32;
    if x < 0.0 { (quadrant.wrapping_neg(), -r) } else { (quadrant, r) }
}
