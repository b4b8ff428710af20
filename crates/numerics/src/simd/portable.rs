//! Vectors in plain Rust: one lane, which is the definition, and four, which any compiler maps
//! to the vector unit of its target.

use super::Simd;

/// One lane.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    const LANES: usize = 1;
    const TILE_ROWS: usize = 1;
    type V = f32;

    #[inline(always)]
    fn splat(self, value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { from.read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: f32) {
        // SAFETY: the caller's promise.
        unsafe { to.write(v) }
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn if_gt(self, a: f32, b: f32, yes: f32, no: f32) -> f32 {
        if a > b { yes } else { no }
    }
    #[inline(always)]
    fn abs(self, a: f32) -> f32 {
        a.abs()
    }
    #[inline(always)]
    fn with_sign(self, size: f32, sign: f32) -> f32 {
        size.copysign(sign)
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() << 23)
    }
}

/// Four lanes.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type Four = [f32; 4];

#[inline(always)]
fn each(f: impl FnMut(usize) -> f32) -> Four {
    std::array::from_fn(f)
}

impl Simd for Portable {
    const LANES: usize = 4;
    const TILE_ROWS: usize = 12;
    type V = Four;

    #[inline(always)]
    fn splat(self, value: f32) -> Four {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Four {
        // SAFETY: the caller's promise; an array of f32 is aligned as f32 is.
        unsafe { from.cast::<Four>().read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: Four) {
        // SAFETY: the caller's promise; an array of f32 is aligned as f32 is.
        unsafe { to.cast::<Four>().write(v) }
    }
    #[inline(always)]
    fn add(self, a: Four, b: Four) -> Four {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Four, b: Four) -> Four {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Four, b: Four) -> Four {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Four, b: Four) -> Four {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Four, b: Four, c: Four) -> Four {
        each(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn if_gt(self, a: Four, b: Four, yes: Four, no: Four) -> Four {
        each(|i| if a[i] > b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn abs(self, a: Four) -> Four {
        each(|i| a[i].abs())
    }
    #[inline(always)]
    fn with_sign(self, size: Four, sign: Four) -> Four {
        each(|i| size[i].copysign(sign[i]))
    }
    #[inline(always)]
    fn shift_to_exponent(self, a: Four) -> Four {
        each(|i| f32::from_bits(a[i].to_bits() << 23))
    }
}
