//! Linear layers with weights packed once.

use crate::check;
use crate::error::Result;
use crate::gemm::{RightPanels, View, multiply_rows};

/// A linear layer `y = x W^T + b`, ready for the kernels.
#[derive(Debug, Clone)]
pub struct PackedLinear {
    weight: RightPanels,
    bias: Option<Vec<f32>>,
}

impl PackedLinear {
    /// Packs `weight`, `[out_features, in_features]` as PyTorch keeps it, and `bias`,
    /// `[out_features]`.
    ///
    /// # Errors
    /// Where a slice does not match its shape, or a dimension is zero.
    pub fn new(
        weight: &[f32],
        out_features: usize,
        in_features: usize,
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        check::length("the weight", weight, &[out_features, in_features])?;
        if let Some(bias) = bias {
            check::length("the bias", bias, &[out_features])?;
        }
        // [out, in] is the transpose of the right operand.
        let view = View { data: weight, row_stride: 1, column_stride: in_features };
        Ok(Self {
            weight: RightPanels::pack(view, in_features, out_features),
            bias: bias.map(<[f32]>::to_vec),
        })
    }

    /// Inputs of a row.
    #[must_use]
    pub fn in_features(&self) -> usize {
        self.weight.depth
    }

    /// Outputs of a row.
    #[must_use]
    pub fn out_features(&self) -> usize {
        self.weight.columns
    }

    /// Computes `out` `[rows, out_features]` from `x` `[rows, in_features]`.
    ///
    /// # Errors
    /// Where a slice does not match its shape, or `rows` is zero.
    pub fn forward(&self, x: &[f32], rows: usize, out: &mut [f32]) -> Result<()> {
        check::length("the input", x, &[rows, self.in_features()])?;
        check::length("the output", out, &[rows, self.out_features()])?;
        let view = View { data: x, row_stride: self.in_features(), column_stride: 1 };
        multiply_rows(view, rows, &self.weight, self.bias.as_deref(), out);
        Ok(())
    }
}
