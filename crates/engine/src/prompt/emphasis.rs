//! What weights do to a chunk's hidden states: each token's row is multiplied, then the mean is restored.
//!
//! This is the "original" emphasis of the AUTOMATIC1111 web interface, in the order that
//! docs/DETERMINISM.md fixes.

use crate::{Error, Result};

/// Multiplies the rows of `hidden` (`weights.len()` rows, row-major) with their weights and brings the mean
/// back to what it was. Weights that are all 1 leave everything as it is.
///
/// Errors: a mean that becomes zero, which nothing can bring back.
pub(super) fn apply(hidden: &mut [f32], weights: &[f32]) -> Result<()> {
    if weights.iter().all(|weight| *weight == 1.0) || hidden.is_empty() {
        return Ok(());
    }
    let before = sum(hidden);
    for (row, weight) in hidden.chunks_exact_mut(hidden.len() / weights.len()).zip(weights) {
        row.iter_mut().for_each(|value| *value *= weight);
    }
    let ratio = (before / sum(hidden)) as f32;
    if !ratio.is_finite() {
        return Err(Error::Recipe(
            "the weights in the prompt cancel one another out: the mean of its embedding became zero"
                .to_owned(),
        ));
    }
    hidden.iter_mut().for_each(|value| *value *= ratio);
    Ok(())
}

/// In f64 and in order, so that it rounds the same everywhere.
fn sum(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_grow_by_their_weight_and_the_mean_stays() {
        let mut hidden = [1.0, 2.0, 3.0, 4.0];
        apply(&mut hidden, &[1.0, 2.0]).unwrap();
        // 1 + 2 + 6 + 8 = 17 becomes 10 again.
        let ratio = (10.0f64 / 17.0) as f32;
        assert_eq!(hidden, [ratio, 2.0 * ratio, 6.0 * ratio, 8.0 * ratio]);
    }

    #[test]
    fn weights_of_one_change_no_bit() {
        let mut hidden = [0.1, -0.0, f32::MIN_POSITIVE, 7.0];
        let before = hidden.map(f32::to_bits);
        apply(&mut hidden, &[1.0, 1.0]).unwrap();
        assert_eq!(hidden.map(f32::to_bits), before);
    }

    #[test]
    fn a_mean_that_became_zero_is_refused() {
        assert!(apply(&mut [1.0, 1.0], &[1.0, -1.0]).unwrap_err().to_string().contains("cancel"));
    }
}
