//! Running a function of one or two elements over slices, in vectors and threads.

mod bilinear;
mod functions;
mod reduce;

pub(crate) use bilinear::bilinear;
pub(crate) use functions::{
    Add, Affine, Gelu, GeluTanh, Multiply, Plus, QuickGelu, Relu, Scaled, Sigmoid, Silu, TanhClamp, TimesGelu,
};
pub(crate) use reduce::{Squares, Sum, largest, reduce};

use crate::isa::{Isa, Kernel};
use crate::parallel::for_each_chunk;
use crate::simd::{Scalar, Simd};

/// Elements of a job.
pub(crate) const CHUNK: usize = 1 << 14;

/// A function of one element.
pub(crate) trait Map: Copy + Send + Sync {
    /// The function; must be `#[inline(always)]`.
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V;
}

/// A function of two elements.
pub(crate) trait Zip: Copy + Send + Sync {
    /// The function; must be `#[inline(always)]`.
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V;
}

/// `out[i] = f(x[i])` on this thread. The slices must be equally long.
#[inline(always)]
pub(crate) fn map_slice<S: Simd>(s: S, f: impl Map, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    let whole = x.len() - x.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `whole` is at most the length of both.
        unsafe { s.store(out.as_mut_ptr().add(i), f.apply(s, s.load(x.as_ptr().add(i)))) };
    }
    for i in whole..x.len() {
        out[i] = f.apply(Scalar, x[i]);
    }
}

/// `out[i] = f(a[i], b[i])` on this thread. The slices must be equally long.
#[inline(always)]
pub(crate) fn zip_slice<S: Simd>(s: S, f: impl Zip, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len());
    let whole = out.len() - out.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `whole` is at most the length of all three.
        unsafe {
            let (a, b) = (s.load(a.as_ptr().add(i)), s.load(b.as_ptr().add(i)));
            s.store(out.as_mut_ptr().add(i), f.apply(s, a, b));
        }
    }
    for i in whole..out.len() {
        out[i] = f.apply(Scalar, a[i], b[i]);
    }
}

/// [`map_slice`] as a kernel.
pub(crate) struct MapSlice<'a, F> {
    pub(crate) f: F,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl<F: Map> Kernel for MapSlice<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        map_slice(s, self.f, self.x, self.out);
    }
}

/// [`zip_slice`] as a kernel.
pub(crate) struct ZipSlice<'a, F> {
    pub(crate) f: F,
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl<F: Zip> Kernel for ZipSlice<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        zip_slice(s, self.f, self.a, self.b, self.out);
    }
}

/// `a[i] = f(a[i], b[i])` as a kernel.
struct ZipInPlace<'a, F> {
    f: F,
    a: &'a mut [f32],
    b: &'a [f32],
}

impl<F: Zip> Kernel for ZipInPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { f, a, b } = self;
        assert_eq!(a.len(), b.len());
        let whole = a.len() - a.len() % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            // SAFETY: `whole` is at most the length of both.
            unsafe {
                let at = a.as_mut_ptr().add(i);
                s.store(at, f.apply(s, s.load(at), s.load(b.as_ptr().add(i))));
            }
        }
        for i in whole..a.len() {
            a[i] = f.apply(Scalar, a[i], b[i]);
        }
    }
}

/// `x[i] = f(x[i])` on this thread.
#[inline(always)]
pub(crate) fn map_in_place<S: Simd>(s: S, f: impl Map, x: &mut [f32]) {
    let whole = x.len() - x.len() % S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `whole` is at most the length.
        unsafe {
            let at = x.as_mut_ptr().add(i);
            s.store(at, f.apply(s, s.load(at)));
        }
    }
    for x in &mut x[whole..] {
        *x = f.apply(Scalar, *x);
    }
}

/// [`map_in_place`] as a kernel.
pub(crate) struct MapInPlace<'a, F> {
    pub(crate) f: F,
    pub(crate) x: &'a mut [f32],
}

impl<F: Map> Kernel for MapInPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        map_in_place(s, self.f, self.x);
    }
}

/// `out[i] = f(x[i])` over the current threads.
pub(crate) fn map(f: impl Map, x: &[f32], out: &mut [f32]) {
    let isa = Isa::active();
    for_each_chunk((out, CHUNK), (x, CHUNK), |_, out, x| isa.run(MapSlice { f, x, out }));
}

/// `out[i] = f(a[i], b[i])` over the current threads.
pub(crate) fn zip(f: impl Zip, a: &[f32], b: &[f32], out: &mut [f32]) {
    let isa = Isa::active();
    for_each_chunk((out, CHUNK), (a, CHUNK), |i, out, a| {
        isa.run(ZipSlice { f, a, b: &b[i * CHUNK..][..out.len()], out });
    });
}

/// `a[i] = f(a[i], b[i])` over the current threads.
pub(crate) fn zip_in_place(f: impl Zip, a: &mut [f32], b: &[f32]) {
    let isa = Isa::active();
    for_each_chunk((a, CHUNK), (b, CHUNK), |_, a, b| isa.run(ZipInPlace { f, a, b }));
}
