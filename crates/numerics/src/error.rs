//! What a caller can do wrong. Nothing here happens after work has begun.

/// A call that was refused before any work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumericsError {
    /// A slice is not as long as its shape says.
    #[error("wrong length of {what}: {actual} elements, but the shape {shape:?} needs {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// The shape the caller gave.
        shape: Vec<usize>,
        /// The product of the shape.
        expected: usize,
        /// The length of the slice.
        actual: usize,
    },
    /// A dimension is zero where nothing sensible can be computed.
    #[error("zero in the shape {shape:?} of {what}; every dimension must be at least 1")]
    ZeroDimension {
        /// Which argument.
        what: &'static str,
        /// The shape the caller gave.
        shape: Vec<usize>,
    },
    /// The number of elements is more than this machine can address.
    #[error("the shape {shape:?} of {what} has more elements than this machine can address")]
    Overflow {
        /// Which argument.
        what: &'static str,
        /// The shape the caller gave.
        shape: Vec<usize>,
    },
    /// A dimension must be a multiple of another.
    #[error("{what} is {value}, which is not a multiple of {divisor}")]
    NotDivisible {
        /// Which dimension.
        what: &'static str,
        /// Its value.
        value: usize,
        /// What it must be a multiple of.
        divisor: usize,
    },
    /// The kernel of a convolution does not fit into the padded picture.
    #[error("a {kernel_h}x{kernel_w} kernel does not fit a picture of {height}x{width} after padding")]
    KernelTooLarge {
        /// Kernel height.
        kernel_h: usize,
        /// Kernel width.
        kernel_w: usize,
        /// Height of the padded input.
        height: usize,
        /// Width of the padded input.
        width: usize,
    },
    /// A strided view reaches beyond its slice.
    #[error("the strides of {what} reach element {last} of a slice of {actual}")]
    OutOfView {
        /// Which argument.
        what: &'static str,
        /// The largest index the view touches.
        last: usize,
        /// The length of the slice.
        actual: usize,
    },
    /// A matrix inside a strided view is larger than the slice it lies in.
    #[error(
        "a matrix of {what} has {elements} elements, more than the slice of {actual} it lies in; only whole \
         matrices may repeat, by a batch stride of 0"
    )]
    Repeated {
        /// Which argument.
        what: &'static str,
        /// Elements of one matrix.
        elements: usize,
        /// The length of the slice.
        actual: usize,
    },
    /// A causal mask needs as many keys as queries.
    #[error("a causal mask needs as many keys as queries, not {kv_len} keys for {q_len} queries")]
    CausalLengths {
        /// Queries.
        q_len: usize,
        /// Keys.
        kv_len: usize,
    },
    /// More of a CUDA device's noise than all devices agree on.
    #[error(
        "torch-cuda noise of {elements} elements depends on the device that drew it; at most {most} do not: use a \
         smaller picture, or another noise source"
    )]
    DeviceNoise {
        /// Elements that were asked for.
        elements: usize,
        /// The limit.
        most: usize,
    },
    /// The CPU lacks what strict numerics are made of.
    #[error("this CPU has no fused multiply-add (FMA3); strict numerics need one from 2013 or later")]
    NoFusedMultiplyAdd,
    /// An instruction set was asked for that this CPU lacks.
    #[error("this CPU cannot run {isa} kernels; the best it has is {best}")]
    UnsupportedIsa {
        /// The one asked for.
        isa: crate::Isa,
        /// The best one there is.
        best: crate::Isa,
    },
}

/// The result of every fallible function here.
pub type Result<T> = std::result::Result<T, NumericsError>;
