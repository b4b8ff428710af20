//! Guidance rescale (Lin et al. 2023, arXiv:2305.08891, section 3.4).
//!
//! Reference: diffusers' `rescale_noise_cfg`.

/// Brings a guided prediction towards the deviation that the prompt's own prediction has.
///
/// `amount` is 0 for none of it to 1. Deviations are over one image's whole prediction, in f64: means and
/// squares are summed from the first element to the last.
pub(crate) fn rescale(guided: &[f32], prompted: &[f32], amount: f64) -> Vec<f32> {
    let factor = (amount * (deviation(prompted) / deviation(guided)) + (1.0 - amount)) as f32;
    guided.iter().map(|value| value * factor).collect()
}

/// The standard deviation of a sample, with one degree of freedom less than elements.
fn deviation(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let wide = || values.iter().map(|value| f64::from(*value));
    let mean = wide().fold(0.0, |sum, value| sum + value) / count;
    let squares = wide().fold(0.0, |sum, value| sum + (value - mean) * (value - mean));
    (squares / (count - 1.0)).sqrt()
}
