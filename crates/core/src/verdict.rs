//! What a replay found.

use serde::{Deserialize, Serialize};

/// At or above this peak signal-to-noise ratio two renderings of one recipe in different numeric
/// classes count as equivalent, in decibels.
pub const EQUIVALENT_PSNR_DB: f64 = 38.0;

/// How far two pictures of the same size lie apart, over raw RGB8.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Peak signal-to-noise ratio in decibels; absent when the pictures are the same.
    pub psnr_db: Option<f64>,
    /// The largest difference of one channel of one pixel, 0 to 255.
    pub max_channel: u8,
    /// Pixels that differ in at least one channel.
    pub pixels: u64,
}

impl Difference {
    /// Compares two RGB8 buffers of the same length; `None` when the lengths differ.
    pub fn between(a: &[u8], b: &[u8]) -> Option<Self> {
        if a.len() != b.len() {
            return None;
        }
        let gap = |(x, y): (&u8, &u8)| u64::from(x.abs_diff(*y));
        let squares: u64 = a.iter().zip(b).map(gap).map(|d| d * d).sum();
        let max_channel = a.iter().zip(b).map(|(x, y)| x.abs_diff(*y)).max().unwrap_or(0);
        let pixels = a.chunks(3).zip(b.chunks(3)).filter(|(x, y)| x != y).count() as u64;
        let psnr_db = (squares > 0).then(|| 10.0 * (255.0 * 255.0 * a.len() as f64 / squares as f64).log10());
        Some(Self { psnr_db, max_channel, pixels })
    }
}

/// The outcome of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every pixel is the same.
    Exact,
    /// Another numeric class gave other bits, and nobody would see it.
    Equivalent {
        /// How far apart.
        difference: Difference,
    },
    /// Not the picture that the recipe was said to give.
    Different {
        /// How far apart; absent when the original's pixels are gone or have another size.
        difference: Option<Difference>,
    },
    /// It cannot be told.
    Unverifiable {
        /// Which part is gone.
        missing: String,
    },
}

impl Verdict {
    /// The verdict's name, as stored and printed.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Equivalent { .. } => "equivalent",
            Self::Different { .. } => "different",
            Self::Unverifiable { .. } => "unverifiable",
        }
    }

    /// Judges two renderings of one recipe whose pixel digests differ or agree.
    ///
    /// Within one numeric class anything but the same bits is `Different`.
    pub fn judge(same_pixels: bool, same_class: bool, difference: Option<Difference>) -> Self {
        match difference {
            _ if same_pixels => Self::Exact,
            Some(difference)
                if !same_class && difference.psnr_db.is_some_and(|db| db >= EQUIVALENT_PSNR_DB) =>
            {
                Self::Equivalent { difference }
            }
            difference => Self::Different { difference },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_meets_a_value_worked_by_hand() {
        // One of six bytes off by 5: 10 log10(255^2 / (25/6)) = 41.93 dB.
        let difference = Difference::between(&[0, 0, 0, 10, 10, 10], &[0, 0, 0, 10, 15, 10]).unwrap();
        assert!((difference.psnr_db.unwrap() - 41.932).abs() < 0.001);
        assert_eq!((difference.max_channel, difference.pixels), (5, 1));
    }

    #[test]
    fn one_bit_off_is_different_within_a_class_and_equivalent_across() {
        let difference = Difference::between(&[100; 300], &[101; 300]);
        assert_eq!(Verdict::judge(false, true, difference).as_str(), "different");
        assert_eq!(Verdict::judge(false, false, difference).as_str(), "equivalent");
        assert_eq!(Verdict::judge(true, true, None), Verdict::Exact);
    }

    #[test]
    fn pictures_of_other_sizes_have_no_difference_to_measure() {
        assert_eq!(Difference::between(&[0; 3], &[0; 6]), None);
        assert_eq!(Verdict::judge(false, false, None).as_str(), "different");
    }
}
