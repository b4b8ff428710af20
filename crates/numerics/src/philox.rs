//! Counter-based noise: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as
//! 1, 2, 3", SC 2011) and normal numbers made from it.
//!
//! No state is kept, so an element can be drawn anywhere, in any order.

use std::f64::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32 over `counter` with `key`.
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        let (high0, low0) = ((p0 >> 32) as u32, p0 as u32);
        let (high1, low1) = ((p1 >> 32) as u32, p1 as u32);
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

/// Fills `out` with standard normal numbers. Element `i` depends on `seed`, `draw` and `i` only.
///
/// Elements `2b` and `2b + 1` come from block `b`: the key is `[seed low, seed high]`, the counter
/// `[b low, b high, draw, 0]`, and of the four words the first two (low, high) make
/// `u = ((w >> 11) + 1) / 2^53` and the last two `v = (w >> 11) / 2^53`. Box and Muller's
/// `sqrt(-2 ln u)` times `cos(2 pi v)` and `sin(2 pi v)` follow in f64 with the `libm` crate, and
/// are rounded to f32.
pub fn standard_normal(seed: u64, draw: u32, out: &mut [f32]) {
    for (block, pair) in (0u64..).zip(out.chunks_mut(2)) {
        let normal = normal_pair(seed, draw, block);
        pair.copy_from_slice(&normal[..pair.len()]);
    }
}

fn normal_pair(seed: u64, draw: u32, block: u64) -> [f32; 2] {
    const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
    let counter = [block as u32, (block >> 32) as u32, draw, 0];
    let w = philox4x32_10(counter, [seed as u32, (seed >> 32) as u32]);
    let word = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) >> 11;
    let u = (word(w[0], w[1]) + 1) as f64 * UNIT;
    let v = word(w[2], w[3]) as f64 * UNIT;
    let radius = libm::sqrt(-2.0 * libm::log(u));
    let (sin, cos) = (libm::sin(TAU * v), libm::cos(TAU * v));
    [(radius * cos) as f32, (radius * sin) as f32]
}
