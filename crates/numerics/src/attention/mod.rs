//! Scaled dot-product attention of several heads.

mod job;

use self::job::{Job, scratch_lengths};
use crate::check;
use crate::error::{NumericsError, Result};
use crate::gemm::{COLUMNS, Out, View, with_scratch};
use crate::isa::Isa;
use crate::parallel;

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
    run([q, k, v], shape, scale, mask, out);
    Ok(())
}

/// Splits the work by heads and, where there are few, by queries.
fn run(operands: [&[f32]; 3], shape: &AttentionShape, scale: f32, mask: Mask, out: &mut [f32]) {
    let isa = Isa::active();
    let heads = shape.batch * shape.heads;
    let blocks = shape.q_len.div_ceil(COLUMNS);
    // A job packs all keys and values of its head, so few large jobs are better than many.
    let work = 4 * heads * shape.q_len * shape.kv_len * shape.head_dim;
    let splits = if heads >= parallel::jobs_for(work) { 1 } else { rayon::current_num_threads() };
    let queries_each = blocks.div_ceil(splits) * COLUMNS;
    let jobs_each = shape.q_len.div_ceil(queries_each);
    let out = Out::new(out);
    parallel::for_each(heads * jobs_each, work, |job| {
        let head = job / jobs_each;
        let first = job % jobs_each * queries_each;
        let [q, k, v] = operands;
        with_scratch(scratch_lengths(shape), |scratch| {
            isa.run(Job {
                shape: *shape,
                scale,
                mask,
                q: head_rows(q, shape, shape.q_len, head),
                k: head_rows(k, shape, shape.kv_len, head),
                v: head_rows(v, shape, shape.kv_len, head),
                queries: first..shape.q_len.min(first + queries_each),
                out,
                out_start: head_start(shape, shape.q_len, head),
                scratch,
            });
        });
    });
}

/// Where row 0 of a head begins; heads are counted through all sequences.
fn head_start(shape: &AttentionShape, len: usize, head: usize) -> usize {
    let (sequence, head) = (head / shape.heads, head % shape.heads);
    (sequence * len * shape.heads + head) * shape.head_dim
}

fn head_rows<'a>(data: &'a [f32], shape: &AttentionShape, len: usize, head: usize) -> View<'a> {
    View {
        data: &data[head_start(shape, len, head)..],
        row_stride: shape.heads * shape.head_dim,
        column_stride: 1,
    }
}
