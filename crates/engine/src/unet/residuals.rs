//! What a ControlNet adds to a UNet.

use candle_core::Tensor;

use crate::ops::Ops;
use crate::{Error, Result};

/// Terms for what the UNet keeps on its way down, and for its middle.
#[derive(Debug, Clone)]
pub(crate) struct Residuals {
    /// In the order in which the UNet keeps its outputs: that of the first convolution, then of each layer and
    /// each downsampler.
    pub down: Vec<Tensor>,
    /// For the output of the middle.
    pub mid: Tensor,
}

impl Residuals {
    /// The sum with another ControlNet's, term by term.
    ///
    /// Errors: residuals of another shape.
    pub fn add(self, ops: &Ops, other: &Self) -> Result<Self> {
        Ok(Self { down: add_each(ops, self.down, &other.down)?, mid: add(ops, &self.mid, &other.mid)? })
    }

    /// The outputs kept on the way down, with the terms added.
    pub(super) fn add_to_skips(&self, ops: &Ops, skips: Vec<Tensor>) -> Result<Vec<Tensor>> {
        add_each(ops, skips, &self.down)
    }

    /// The middle's output with its term added.
    pub(super) fn add_to_mid(&self, ops: &Ops, hidden: &Tensor) -> Result<Tensor> {
        add(ops, hidden, &self.mid)
    }
}

fn add_each(ops: &Ops, sums: Vec<Tensor>, terms: &[Tensor]) -> Result<Vec<Tensor>> {
    if sums.len() != terms.len() {
        return Err(Error::Recipe(format!(
            "a ControlNet with {} outputs does not fit a network that takes {}",
            terms.len(),
            sums.len()
        )));
    }
    sums.iter().zip(terms).map(|(sum, term)| add(ops, sum, term)).collect()
}

fn add(ops: &Ops, sum: &Tensor, term: &Tensor) -> Result<Tensor> {
    if sum.dims() != term.dims() {
        return Err(Error::Recipe(format!(
            "a ControlNet's output of shape {:?} does not fit a network that takes {:?}",
            term.dims(),
            sum.dims()
        )));
    }
    ops.add(sum, term)
}
