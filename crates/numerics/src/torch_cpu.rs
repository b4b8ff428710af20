//! The normal numbers of `torch.randn` on the CPU, as PyTorch draws them on x86-64 with AVX2.
//!
//! A [`Generator`] is `torch.Generator("cpu")` after `manual_seed`: a Mersenne Twister (MT19937; Matsumoto and
//! Nishimura 1998) and, for short tensors, one normal number kept back. It goes on from draw to draw, so
//! the second tensor depends on the length of the first.
//!
//! Tensors of 16 elements or more take PyTorch's vectorised path, whose logarithm, sine and cosine are
//! Cephes' polynomials in f32 (Moshier's `logf`, `sinf` and `cosf`). PyTorch takes that path on every x86-64
//! processor with AVX2, with or without AVX-512. On other processors (and with `ATEN_CPU_CAPABILITY=default`)
//! it calls the system's `logf`, `sinf` and `cosf`, and the last bits differ; those values are not drawn here.
//!
//! Compared bit for bit with PyTorch 2.15.0 (`tests/parity/torch_noise.py`).

use std::f64::consts::TAU;

/// Words of the twister's state.
const WORDS: usize = 624;
/// How far ahead a word is mixed in.
const AHEAD: usize = 397;
/// Elements that the vectorised path makes at a time.
const BLOCK: usize = 16;

/// `torch.Generator("cpu")`.
#[derive(Debug, Clone)]
pub struct Generator {
    state: Box<[u32; WORDS]>,
    next: usize,
    /// The second number of the last pair of the short path.
    kept: Option<f64>,
}

impl Generator {
    /// The generator after `manual_seed(seed)`. PyTorch keeps the low 32 bits of a seed on the CPU.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = Box::new([0; WORDS]);
        let mut word = seed as u32;
        for (place, slot) in (0_u32..).zip(state.iter_mut()) {
            if place > 0 {
                word = 1_812_433_253_u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(place);
            }
            *slot = word;
        }
        Self { state, next: WORDS, kept: None }
    }

    /// Fills `out` as `torch.randn(len, generator=self)` would, and moves the generator on.
    pub fn standard_normal(&mut self, out: &mut [f32]) {
        if out.len() < BLOCK {
            out.iter_mut().for_each(|value| *value = self.short() as f32);
            return;
        }
        out.iter_mut().for_each(|value| *value = self.uniform());
        let whole = out.len() / BLOCK * BLOCK;
        out[..whole].chunks_exact_mut(BLOCK).for_each(box_muller);
        if whole < out.len() {
            // The last block is drawn again, over what the one before it left.
            let last = out.len() - BLOCK;
            out[last..].iter_mut().for_each(|value| *value = self.uniform());
            box_muller(&mut out[last..]);
        }
    }

    /// One number of the short path: Box and Muller in f64, with the `libm` crate.
    fn short(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let angle = TAU * self.uniform_f64();
        let radius = libm::sqrt(-2.0 * libm::log1p(-self.uniform_f64()));
        self.kept = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// In [0, 1), from the low 24 bits of a word.
    fn uniform(&mut self) -> f32 {
        const UNIT: f32 = 1.0 / (1 << 24) as f32;
        (self.word() & 0x00FF_FFFF) as f32 * UNIT
    }

    /// In [0, 1), from the low 53 bits of two words, the first one high.
    fn uniform_f64(&mut self) -> f64 {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        let high = u64::from(self.word());
        let both = high << 32 | u64::from(self.word());
        (both & ((1 << 53) - 1)) as f64 * UNIT
    }

    /// The next 32 bits.
    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for place in 0..WORDS {
            let next = self.state[(place + 1) % WORDS];
            let joined = (self.state[place] & 0x8000_0000) | (next & 0x7FFF_FFFF);
            let odd = if next & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[place] = self.state[(place + AHEAD) % WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// Sixteen uniform numbers to sixteen normal ones: the first eight give radii, the others angles.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * log(1.0 - *first)).sqrt();
        let (sin, cos) = sin_cos(std::f32::consts::TAU * *second);
        // Adding the mean of zero turns -0 into +0.
        *first = radius * cos + 0.0;
        *second = radius * sin + 0.0;
    }
}

/// Cephes' `logf` of a positive normal number, with the fused steps of PyTorch's binaries.
fn log(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mantissa = f32::from_bits(bits & 0x007F_FFFF | 0x3F00_0000);
    let exponent = (bits >> 23) as f32 - 126.0;
    let below = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let exponent = if below { exponent - 1.0 } else { exponent };
    let x = if below { (mantissa - 1.0) + mantissa } else { mantissa - 1.0 };
    let square = x * x;
    let polynomial =
        COEFFICIENTS[1..].iter().fold(COEFFICIENTS[0], |sum, coefficient| sum.mul_add(x, *coefficient)) * x;
    let y = polynomial.mul_add(square, exponent * -2.121_944_4e-4);
    let y = (-square).mul_add(0.5, y);
    exponent.mul_add(0.693_359_4, x + y)
}

/// Cephes' `sinf` and `cosf` of a number from 0 to 2 pi, with the fused steps of PyTorch's binaries.
fn sin_cos(angle: f32) -> (f32, f32) {
    let octant = ((angle * 1.273_239_5) as i32 + 1) & !1;
    let turns = octant as f32;
    let x = turns.mul_add(-0.785_156_25, angle);
    let x = turns.mul_add(-2.418_756_5e-4, x);
    let x = turns.mul_add(-3.774_895e-8, x);
    let z = x * x;
    let cos = 2.443_315_7e-5_f32.mul_add(z, -1.388_731_6e-3).mul_add(z, 4.166_664_6e-2) * z;
    let cos = cos.mul_add(z, -(z * 0.5)) + 1.0;
    let sin = (-1.951_529_6e-4_f32).mul_add(z, 8.332_161e-3).mul_add(z, -1.666_665_5e-1) * z;
    let sin = sin.mul_add(x, x);
    let (sin, cos) = if octant & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let negated = |negative: bool, value: f32| if negative { -value } else { value };
    (negated(octant & 4 != 0, sin + 0.0), negated((octant - 2) & 4 == 0, cos + 0.0))
}

#[cfg(test)]
mod tests;
