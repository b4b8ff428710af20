//! Vectors of `f32` behind one trait, so that each kernel is written once for every width.
//!
//! Every operation is IEEE 754 exact and acts on each lane alone, so a kernel's result cannot
//! depend on the width. A value of [`Simd`] is a token: it exists only where the CPU has the
//! instructions, which makes its methods safe.

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::{Portable, Scalar};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{run_avx2, run_avx512};

/// The exact lane-wise operations that kernels are made of.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Lanes of a vector: divides 16.
    const LANES: usize;
    /// Rows of the register tile of a matrix kernel that is two vectors wide.
    const TILE_ROWS: usize;
    /// A vector.
    type V: Copy;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// The vector at `from`.
    ///
    /// # Safety
    /// `from` is readable for `LANES` values.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes the vector to `to`.
    ///
    /// # Safety
    /// `to` is writable for `LANES` values.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c` with one rounding.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `yes` where `a > b`, else `no` (also where either is NaN).
    fn if_gt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `a` where `a < b`, else `b` (also where either is NaN).
    #[inline(always)]
    fn lesser(self, a: Self::V, b: Self::V) -> Self::V {
        self.if_gt(b, a, a, b)
    }
    /// `a` where `a > b`, else `b` (also where either is NaN).
    #[inline(always)]
    fn greater(self, a: Self::V, b: Self::V) -> Self::V {
        self.if_gt(a, b, a, b)
    }
    /// `a` without its sign.
    fn abs(self, a: Self::V) -> Self::V;
    /// The size of `size`, which is not negative, with the sign of `sign`.
    fn with_sign(self, size: Self::V, sign: Self::V) -> Self::V;
    /// The bits of each lane moved up by 23: a biased exponent in the low bits becomes a power of 2.
    fn shift_to_exponent(self, a: Self::V) -> Self::V;
    /// `a * 2^n`, rounded once, for `a` from 0.5 to 2 and whole numbers `n` from -151 to 129.
    #[inline(always)]
    fn times_power_of_two(self, a: Self::V, n: Self::V) -> Self::V {
        // In two factors, so that the first product is exact and the second rounds, also where the result
        // is subnormal or infinite. Adding 1.5 * 2^23 brings the nearest integer to the low bits.
        let to_integer = self.splat(12_582_912.0);
        let half = self.sub(self.fma(n, self.splat(0.5), to_integer), to_integer);
        let biased = self.splat(12_582_912.0 + 127.0);
        let first = self.shift_to_exponent(self.add(half, biased));
        let second = self.shift_to_exponent(self.add(self.sub(n, half), biased));
        self.mul(self.mul(a, first), second)
    }
}
