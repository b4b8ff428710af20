//! Products of batches of matrices.

use crate::check;
use crate::error::{NumericsError, Result};
use crate::gemm::{RightPanels, View, multiply_rows};

/// A batch of matrices inside a slice: element `(b, i, j)` is at
/// `b * batch_stride + i * row_stride + j * column_stride`. The batch stride may be 0 to repeat a
/// matrix; the elements of one matrix are no more than those of the slice.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// What the strides step through.
    pub data: &'a [f32],
    /// From one matrix to the next.
    pub batch_stride: usize,
    /// From one row to the next.
    pub row_stride: usize,
    /// From one column to the next.
    pub column_stride: usize,
}

impl<'a> Strided<'a> {
    /// A contiguous batch of `rows` x `columns` matrices.
    #[must_use]
    pub fn contiguous(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, batch_stride: rows.saturating_mul(columns), row_stride: columns, column_stride: 1 }
    }

    /// The same matrices transposed.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    fn check(&self, what: &'static str, shape: [usize; 3]) -> Result<()> {
        check::elements(what, &shape)?;
        let strides = [self.batch_stride, self.row_stride, self.column_stride];
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(0usize, |last, (&n, stride)| last.checked_add((n - 1).checked_mul(stride)?));
        let actual = self.data.len();
        match last {
            // Packing one matrix must not take more memory than its caller did.
            Some(last) if last < actual && shape[1] * shape[2] > actual => {
                Err(NumericsError::Repeated { what, elements: shape[1] * shape[2], actual })
            }
            Some(last) if last < actual => Ok(()),
            Some(last) => Err(NumericsError::OutOfView { what, last, actual }),
            None => Err(NumericsError::Overflow { what, shape: shape.to_vec() }),
        }
    }

    fn matrix(&self, batch: usize) -> View<'a> {
        View {
            data: &self.data[batch * self.batch_stride..],
            row_stride: self.row_stride,
            column_stride: self.column_stride,
        }
    }
}

/// `out` `[batch, m, n]` = `a` `[batch, m, k]` times `b` `[batch, k, n]`, all contiguous.
///
/// # Errors
/// Where a slice does not match its shape, or a dimension is zero.
pub fn batched_matmul(
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
) -> Result<()> {
    check::length("the left matrix", a, &[batch, m, k])?;
    check::length("the right matrix", b, &[batch, k, n])?;
    let (a, b) = (Strided::contiguous(a, m, k), Strided::contiguous(b, k, n));
    batched_matmul_strided(&a, &b, out, batch, m, k, n)
}

/// As [`batched_matmul`], with operands of any strides. `out` is contiguous.
///
/// # Errors
/// Where a view reaches beyond its slice, `out` does not match, or a dimension is zero.
pub fn batched_matmul_strided(
    a: &Strided<'_>,
    b: &Strided<'_>,
    out: &mut [f32],
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
) -> Result<()> {
    a.check("the left matrix", [batch, m, k])?;
    b.check("the right matrix", [batch, k, n])?;
    check::length("the product", out, &[batch, m, n])?;
    for (batch, out) in out.chunks_exact_mut(m * n).enumerate() {
        let right = RightPanels::pack(b.matrix(batch), k, n);
        multiply_rows(a.matrix(batch), m, &right, None, out);
    }
    Ok(())
}
