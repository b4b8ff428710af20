//! Convolutions in two dimensions with weights packed once.

mod gather;
mod run;
mod window;

use self::gather::Geometry;
use self::run::Convolution;
use crate::check;
use crate::error::{NumericsError, Result};
use crate::gemm::{LeftPanels, View};

/// The shape of a convolution's weight, `[out_channels, in_channels, kernel_h, kernel_w]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Rows of the kernel.
    pub kernel_h: usize,
    /// Columns of the kernel.
    pub kernel_w: usize,
}

/// Rows and columns of +0 around the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on every side.
    #[must_use]
    pub fn all(by: usize) -> Self {
        Self { top: by, bottom: by, left: by, right: by }
    }
}

/// Taps of a block at most.
const BLOCK_TAPS: usize = 512;

/// Taps of a block: those of some whole channels, if one fits.
fn block_of(area: usize) -> usize {
    if area > BLOCK_TAPS { BLOCK_TAPS } else { BLOCK_TAPS / area * area }
}

/// A convolution ready for the kernels.
#[derive(Debug, Clone)]
pub struct PackedConv2d {
    shape: ConvShape,
    stride: usize,
    padding: Padding,
    weight: LeftPanels,
    bias: Option<Vec<f32>>,
}

impl PackedConv2d {
    /// Packs `weight`, in the order of `shape`, and `bias`, `[out_channels]`. The stride is the
    /// same in both directions.
    ///
    /// # Errors
    /// Where a slice does not match its shape, or a dimension or the stride is zero.
    pub fn new(
        weight: &[f32],
        shape: ConvShape,
        bias: Option<&[f32]>,
        stride: usize,
        padding: Padding,
    ) -> Result<Self> {
        let dimensions = [shape.out_channels, shape.in_channels, shape.kernel_h, shape.kernel_w];
        check::length("the weight", weight, &dimensions)?;
        check::not_zero("the stride", stride)?;
        if let Some(bias) = bias {
            check::length("the bias", bias, &[shape.out_channels])?;
        }
        let taps = shape.in_channels * shape.kernel_h * shape.kernel_w;
        let view = View { data: weight, row_stride: taps, column_stride: 1 };
        let weight =
            LeftPanels::pack(view, shape.out_channels, taps, block_of(shape.kernel_h * shape.kernel_w));
        Ok(Self { shape, stride, padding, weight, bias: bias.map(<[f32]>::to_vec) })
    }

    /// The shape of the weight.
    #[must_use]
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// Height and width of the output for an input of `h` x `w`.
    ///
    /// # Errors
    /// Where the kernel does not fit into the padded picture.
    pub fn out_size(&self, h: usize, w: usize) -> Result<(usize, usize)> {
        let p = self.padding;
        let padded =
            |n: usize, before: usize, after: usize| n.checked_add(before).and_then(|n| n.checked_add(after));
        let overflow = || NumericsError::Overflow { what: "the padded picture", shape: vec![h, w] };
        let height = padded(h, p.top, p.bottom).ok_or_else(overflow)?;
        let width = padded(w, p.left, p.right).ok_or_else(overflow)?;
        let (kernel_h, kernel_w) = (self.shape.kernel_h, self.shape.kernel_w);
        if height < kernel_h || width < kernel_w {
            return Err(NumericsError::KernelTooLarge { kernel_h, kernel_w, height, width });
        }
        Ok(((height - kernel_h) / self.stride + 1, (width - kernel_w) / self.stride + 1))
    }

    /// Computes `out` `[n, out_channels, out_h, out_w]` from `x` `[n, in_channels, h, w]`.
    ///
    /// # Errors
    /// Where a slice does not match its shape, a dimension is zero or the kernel does not fit.
    pub fn forward(&self, x: &[f32], n: usize, h: usize, w: usize, out: &mut [f32]) -> Result<()> {
        let (out_h, out_w) = self.out_size(h, w)?;
        check::length("the input", x, &[n, self.shape.in_channels, h, w])?;
        check::length("the output", out, &[n, self.shape.out_channels, out_h, out_w])?;
        // A 1x1 kernel takes a picture for one long row.
        let (input, out_w) = if self.is_pointwise() { ((1, h * w), h * w) } else { ((h, w), out_w) };
        Convolution {
            geometry: Geometry {
                shape: self.shape,
                stride: self.stride,
                padding: self.padding,
                input,
                out_w,
            },
            weight: &self.weight,
            bias: self.bias.as_deref(),
            x,
            pictures: n,
            pixels: out.len() / (n * self.shape.out_channels),
        }
        .run(out);
        Ok(())
    }

    fn is_pointwise(&self) -> bool {
        (self.shape.kernel_h, self.shape.kernel_w, self.stride) == (1, 1, 1)
            && self.padding == Padding::default()
    }
}
