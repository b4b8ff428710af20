//! What the kernel tests share.

use proptest::prelude::*;
use seedfarm_numerics::{Isa, philox};

/// How wild the numbers of a case are.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// Normal numbers.
    Normal,
    /// Normal numbers times 1e-38: products underflow.
    Subnormal,
    /// Normal numbers with zeros of both signs, infinities, NaN and extremes strewn in.
    Wild,
}

pub fn values() -> impl Strategy<Value = Values> {
    prop_oneof![Just(Values::Normal), Just(Values::Subnormal), Just(Values::Wild)]
}

/// `len` numbers that depend on `seed` alone.
pub fn numbers(seed: u64, len: usize, values: Values) -> Vec<f32> {
    let mut numbers = vec![0.0f32; len];
    philox::standard_normal(seed, 0, &mut numbers);
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-45];
    for (i, number) in (0u32..).zip(&mut numbers) {
        match values {
            Values::Normal => {}
            Values::Subnormal => *number *= 1e-38,
            Values::Wild => {
                let dice = philox::philox4x32_10([i, 0, 0, 1], [seed as u32, 77])[0] as usize;
                if dice.is_multiple_of(16) {
                    *number = special[dice / 16 % special.len()];
                }
            }
        }
    }
    numbers
}

/// Every instruction set of this machine and several numbers of threads.
pub fn everywhere(mut check: impl FnMut(&str) + Send) {
    seedfarm_numerics::always_split(true);
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        for isa in Isa::supported() {
            let name = format!("{isa} on {threads} threads");
            pool.install(|| isa.scoped(|| check(&name)).expect("it is supported"));
        }
    }
}

/// Bit for bit, any NaN being as good as another.
#[track_caller]
pub fn assert_same(ours: &[f32], expected: &[f32], case: &str) {
    assert_eq!(ours.len(), expected.len());
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{case}: element {i} of {} is {a:e}, expected {b:e}", ours.len());
    }
}
