//! Shape checks that come before any work.

use crate::error::{NumericsError, Result};

/// The number of elements of `shape`: at least 1, and addressable as `f32`.
pub(crate) fn elements(what: &'static str, shape: &[usize]) -> Result<usize> {
    if shape.contains(&0) {
        return Err(NumericsError::ZeroDimension { what, shape: shape.to_vec() });
    }
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= isize::MAX as usize / size_of::<f32>())
        .ok_or_else(|| NumericsError::Overflow { what, shape: shape.to_vec() })
}

/// Refuses a zero.
pub(crate) fn not_zero(what: &'static str, value: usize) -> Result<()> {
    match value {
        0 => Err(NumericsError::ZeroDimension { what, shape: vec![0] }),
        _ => Ok(()),
    }
}

/// Refuses a slice whose length is not the product of `shape`; gives that product.
pub(crate) fn length(what: &'static str, slice: &[f32], shape: &[usize]) -> Result<usize> {
    let expected = elements(what, shape)?;
    if slice.len() != expected {
        return Err(NumericsError::Length { what, shape: shape.to_vec(), expected, actual: slice.len() });
    }
    Ok(expected)
}

/// Refuses a slice that is not exactly as long as another of any length.
pub(crate) fn same_length(what: &'static str, slice: &[f32], expected: usize) -> Result<()> {
    if slice.len() != expected {
        return Err(NumericsError::Length { what, shape: vec![expected], expected, actual: slice.len() });
    }
    Ok(())
}

/// Refuses a value that is not a multiple of `divisor`; gives the quotient.
pub(crate) fn quotient(what: &'static str, value: usize, divisor: usize) -> Result<usize> {
    if divisor == 0 || !value.is_multiple_of(divisor) {
        return Err(NumericsError::NotDivisible { what, value, divisor });
    }
    Ok(value / divisor)
}
