//! Which instructions the kernels use. The choice changes speed, never bits.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{NumericsError, Result};
use crate::simd::{Portable, Simd};

/// A family of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust that the compiler vectorises as it can: x86-64 without AVX2, and other processors.
    Portable,
    /// arm64, all of which has NEON.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F.
    Avx512,
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

/// 0 = the best there is, else 1 + the index in `ALL`.
static FORCED: AtomicU8 = AtomicU8::new(0);

thread_local! {
    static SCOPED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// Every family, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// Whether this CPU can run it.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// Those this CPU can run, slowest first.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_supported())
    }

    /// The fastest that this CPU can run.
    #[must_use]
    pub fn best() -> Self {
        Self::supported().last().unwrap_or(Self::Portable)
    }

    /// The one that a call from this thread uses now: scoped, else forced, else the best.
    #[must_use]
    pub fn active() -> Self {
        SCOPED.get().or_else(Self::forced).unwrap_or_else(Self::best)
    }

    fn forced() -> Option<Self> {
        let code = FORCED.load(Ordering::Relaxed);
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Makes the whole process use `isa`, or the best again with `None`.
    ///
    /// # Errors
    /// [`NumericsError::UnsupportedIsa`] when this CPU lacks it.
    pub fn force(isa: Option<Self>) -> Result<()> {
        let code = match isa {
            None => 0,
            Some(isa) => 1 + isa.checked()? as u8,
        };
        FORCED.store(code, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `f` with calls from this thread using `isa`. A call hands its choice to the pool
    /// threads it uses, but `f`'s own jobs on other threads do not see it.
    ///
    /// # Errors
    /// [`NumericsError::UnsupportedIsa`] when this CPU lacks it.
    pub fn scoped<T>(self, f: impl FnOnce() -> T) -> Result<T> {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                SCOPED.set(self.0);
            }
        }
        let _restore = Restore(SCOPED.replace(Some(self.checked()?)));
        Ok(f())
    }

    /// Refuses a CPU without a fused multiply-add. There every result would be right, but computed
    /// in software, a hundred times slower.
    ///
    /// # Errors
    /// [`NumericsError::NoFusedMultiplyAdd`] on such a CPU.
    pub fn require_fused() -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        if !is_x86_feature_detected!("fma") {
            return Err(NumericsError::NoFusedMultiplyAdd);
        }
        Ok(())
    }

    fn checked(self) -> Result<Self> {
        if self.is_supported() {
            Ok(self)
        } else {
            Err(NumericsError::UnsupportedIsa { isa: self, best: Self::best() })
        }
    }

    /// Runs `kernel` compiled for these instructions.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => kernel.run(Portable),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => kernel.run(crate::simd::Neon),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => unreachable!("is_supported refuses it here"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => crate::simd::run_avx2(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => crate::simd::run_avx512(kernel),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => unreachable!("is_supported refuses these here"),
        }
    }
}

/// Work written once for every vector width. `run` must be `#[inline(always)]`, or it is compiled
/// without the instructions it was meant to use.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;
    /// The work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
