//! Scaled dot-product attention of several heads.

use crate::check;
use crate::error::{NumericsError, Result};
use crate::reference;

/// The sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Heads, side by side in each row.
    pub heads: usize,
    /// Queries of a sequence.
    pub q_len: usize,
    /// Keys and values of a sequence.
    pub kv_len: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    None,
    /// Query `i` sees keys `0..=i`.
    Causal,
}

/// `out = softmax(scale * q k^T) v` for every head. `q` and `out` are
/// `[batch, q_len, heads * head_dim]`, `k` and `v` `[batch, kv_len, heads * head_dim]`, as linear
/// projections give them.
///
/// # Errors
/// Where a slice does not match its shape, a dimension is zero, or a causal mask is asked for with
/// `q_len` other than `kv_len`.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: &AttentionShape,
    scale: f32,
    mask: Mask,
    out: &mut [f32],
) -> Result<()> {
    let queries = [shape.batch, shape.q_len, shape.heads, shape.head_dim];
    let keys = [shape.batch, shape.kv_len, shape.heads, shape.head_dim];
    check::length("the queries", q, &queries)?;
    check::length("the keys", k, &keys)?;
    check::length("the values", v, &keys)?;
    check::length("the output", out, &queries)?;
    if mask == Mask::Causal && shape.q_len != shape.kv_len {
        return Err(NumericsError::CausalLengths { q_len: shape.q_len, kv_len: shape.kv_len });
    }
    reference::attention((q, k, v), shape, scale, mask, out);
    Ok(())
}
