//! The functions of one and two elements. `reference` has each in scalar form.

use super::{Map, Zip};
use crate::math::{erf_v, exp_v, sigmoid_v, tanh_v};
use crate::simd::Simd;

/// `x / (1 + e^-x)`
#[derive(Clone, Copy)]
pub(crate) struct Silu;

impl Map for Silu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let e = exp_v(s, s.sub(s.splat(0.0), x));
        s.div(x, s.add(s.splat(1.0), e))
    }
}

/// `1 / (1 + e^-x)`
#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;

impl Map for Sigmoid {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        sigmoid_v(s, x)
    }
}

/// `x / 2 * (1 + erf(x / sqrt 2))`
#[derive(Clone, Copy)]
pub(crate) struct Gelu;

impl Map for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let erf = erf_v(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
        s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), erf))
    }
}

/// `x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;

impl Map for GeluTanh {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let cubic = s.fma(s.mul(s.splat(0.044_715), s.mul(x, x)), x, x);
        let tanh = tanh_v(s, s.mul(s.splat(0.797_884_6), cubic));
        s.mul(s.mul(s.splat(0.5), x), s.add(s.splat(1.0), tanh))
    }
}

/// `x / (1 + e^(-1.702 x))`
#[derive(Clone, Copy)]
pub(crate) struct QuickGelu;

impl Map for QuickGelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let e = exp_v(s, s.mul(s.splat(-1.702), x));
        s.div(x, s.add(s.splat(1.0), e))
    }
}

/// 0 where `0 > x`, else x
#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Map for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let zero = s.splat(0.0);
        s.if_gt(zero, x, zero, x)
    }
}

/// `tanh(x / limit) * limit`
#[derive(Clone, Copy)]
pub(crate) struct TanhClamp(pub(crate) f32);

impl Map for TanhClamp {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let limit = s.splat(self.0);
        s.mul(tanh_v(s, s.div(x, limit)), limit)
    }
}

/// `x * factor`
#[derive(Clone, Copy)]
pub(crate) struct Scaled(pub(crate) f32);

impl Map for Scaled {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, s.splat(self.0))
    }
}

/// `x + term`
#[derive(Clone, Copy)]
pub(crate) struct Plus(pub(crate) f32);

impl Map for Plus {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.add(x, s.splat(self.0))
    }
}

/// `(x - mean) * factor + bias`, the product and sum fused, and then perhaps silu.
#[derive(Clone, Copy)]
pub(crate) struct Affine<const SILU: bool> {
    pub(crate) mean: f32,
    pub(crate) factor: f32,
    pub(crate) bias: f32,
}

impl<const SILU: bool> Map for Affine<SILU> {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let x = s.sub(x, s.splat(self.mean));
        let y = s.fma(x, s.splat(self.factor), s.splat(self.bias));
        if SILU { Silu.apply(s, y) } else { y }
    }
}

/// `a + b`
#[derive(Clone, Copy)]
pub(crate) struct Add;

impl Zip for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

/// `a * b`
#[derive(Clone, Copy)]
pub(crate) struct Multiply;

impl Zip for Multiply {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
}

/// `a * gelu(b)`
#[derive(Clone, Copy)]
pub(crate) struct TimesGelu;

impl Zip for TimesGelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, Gelu.apply(s, b))
    }
}
