//! The machine's peak of fused multiply-adds, for benchmarks to compare with.

use std::hint::black_box;
use std::time::Instant;

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;

/// Independent chains: enough to hide the latency of a fused multiply-add at two a cycle.
const CHAINS: usize = 12;
const ROUNDS: usize = 4096;

impl Isa {
    /// Floating-point operations a second that one thread reaches with fused multiply-adds in
    /// registers alone: the best of as many runs as fit into `seconds`.
    #[must_use]
    pub fn measure_peak(seconds: f64) -> f64 {
        let begun = Instant::now();
        let mut best = 0f64;
        while best == 0.0 || begun.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            let operations = Self::active().run(Chains { factor: black_box(0.999_999) });
            best = best.max(operations as f64 / start.elapsed().as_secs_f64());
        }
        best
    }
}

struct Chains {
    factor: f32,
}

impl Kernel for Chains {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let factor = s.splat(self.factor);
        let mut sums = [s.splat(1.0); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.fma(*sum, factor, factor);
            }
        }
        for sum in sums {
            let mut lanes = [0.0f32; 16];
            // SAFETY: no vector has more than 16 lanes.
            unsafe { s.store(lanes.as_mut_ptr(), sum) };
            black_box(lanes);
        }
        2 * ROUNDS * CHAINS * S::LANES
    }
}
