//! Samplers, noise schedules, and the timesteps and noise levels that follow from them.
//!
//! A recipe holds what was resolved, so that a later change of these rules moves no old image.

mod curve;
mod levels;
mod sampler;
mod schedule;
mod spacing;

use crate::invalid::Invalid;

pub use self::levels::{Resolved, check_levels};
pub use self::sampler::Sampler;
pub use self::schedule::{
    BetaCurve, FinalSigma, Lcm, NoiseSchedule, Prediction, SigmaSchedule, Solver, SolverKind, Spacing,
};

/// Finds `name` in a list of choices; the error lists them all.
pub(crate) fn choice<T: Copy>(
    field: &'static str,
    name: &str,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
) -> Result<T, Invalid> {
    all.iter().copied().find(|&candidate| as_str(candidate) == name).ok_or_else(|| Invalid::UnknownChoice {
        field,
        given: name.to_owned(),
        known: all.iter().map(|&known| as_str(known)).collect::<Vec<_>>().join(", "),
    })
}

/// Whether a field can be left out of the JSON, so that recipes from before it keep their digests.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
