//! Strict numerics: operations in an order the specification fixes, and counter-based noise.
//!
//! Every function here gives the same bits on every machine, for any number of threads, any
//! batch and any position in it. `docs/DETERMINISM.md` is the specification; [`mod@reference`] says the
//! same in the plainest scalar Rust and is the definition the fast kernels are tested against.
//!
//! Tensors are contiguous row-major `f32` slices. Work is split over the current rayon pool, so a
//! caller limits threads by calling from inside `ThreadPool::install`. Shapes are checked before
//! any work is done. This crate knows nothing of diffusion, files or devices.
//!
//! NaN is a value without bits: where an operation yields NaN it does so everywhere, but sign and
//! payload of a NaN are not specified.

pub mod attention;
mod check;
pub mod conv;
mod elementwise;
mod error;
mod gemm;
pub mod isa;
pub mod linear;
pub mod math;
pub mod matmul;
mod memory;
pub mod norm;
mod parallel;
mod peak;
pub mod philox;
pub mod pointwise;
pub mod reference;
mod simd;
pub mod torch_cpu;
pub mod torch_cuda;

pub use attention::{AttentionShape, Mask, attention};
pub use conv::{ConvShape, PackedConv2d, Padding};
pub use error::{NumericsError, Result};
pub use isa::Isa;
pub use linear::PackedLinear;
pub use memory::prefer_large_pages;
pub use parallel::always_split;
