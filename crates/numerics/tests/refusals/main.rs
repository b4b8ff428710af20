//! Any arguments at all, thrown at every kernel: either a refusal that names a fault they have,
//! with the output untouched, or the bits of the scalar definition. Never a panic, and never more
//! memory than the operands warrant.

mod call;
#[path = "../support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};

use call::{Call, Fault, absurd, dimension, kernels, lengths, note_size, note_view, skews, strides};
use proptest::collection::vec;
use proptest::prelude::*;
use seedfarm_numerics::matmul::{Strided, batched_matmul, batched_matmul_strided};
use seedfarm_numerics::norm::{
    GroupNormShape, group_norm, group_norm_silu, group_norm_silu_in_place, layer_norm, softmax,
};
use seedfarm_numerics::{
    AttentionShape, ConvShape, Mask, PackedConv2d, PackedLinear, Padding, attention, math, pointwise,
    reference,
};
use support::{Values, everywhere, numbers, values};

/// Bytes of an allocation, at most: some thousand times what the operands here take.
const MOST_BYTES: usize = 64 << 20;

/// Fails the test, by ending it, where more than [`MOST_BYTES`] are asked for at once.
struct Watched;

#[global_allocator]
static WATCHED: Watched = Watched;

// SAFETY: the system's allocator, except that some requests fail.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_BYTES {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

/// For functions of one element.
fn map<'a>(x: &'a [f32], f: impl Fn(f32) -> f32 + 'a) -> impl FnOnce(&mut [f32]) + 'a {
    move |out| out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x))
}

/// For functions of a row.
fn rows<'a>(x: &'a [f32], width: usize, f: impl Fn(&[f32], &mut [f32]) + 'a) -> impl FnOnce(&mut [f32]) + 'a {
    move |out| {
        x.chunks_exact(width).zip(out.chunks_exact_mut(width)).for_each(|(x, out)| f(x, out));
    }
}

/// The definition of a group norm, group by group.
fn define_groups(x: &[f32], shape: &GroupNormShape, weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let each = shape.channels / shape.groups;
    let size = each * shape.spatial;
    for (i, (x, out)) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)).enumerate() {
        let first = i % shape.groups * each;
        let (weight, bias) = (&weight[first..][..each], &bias[first..][..each]);
        reference::group_norm(x, shape.spatial, weight, bias, eps, out);
    }
}

/// Whether `n` can be split into `groups`.
fn divides(groups: usize, n: usize) -> bool {
    groups != 0 && n.is_multiple_of(groups)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn functions_of_elements_refuse_or_are_right(len in 0usize..300, skews in skews::<2>(), factor: f32) {
        let mut call = Call::default();
        // Any length will do, even none, as long as all are alike.
        let a = numbers(1, len, Values::Wild);
        let out_len = skews[0].of(len);
        call.fault(out_len != len, Fault::Length);
        call.check(out_len, |out| pointwise::silu(&a, out), map(&a, reference::silu));
        call.check(out_len, |out| pointwise::sigmoid(&a, out), map(&a, math::sigmoid));
        call.check(out_len, |out| pointwise::gelu(&a, out), map(&a, reference::gelu));
        call.check(out_len, |out| pointwise::gelu_tanh(&a, out), map(&a, reference::gelu_tanh));
        call.check(out_len, |out| pointwise::quick_gelu(&a, out), map(&a, reference::quick_gelu));
        call.check(out_len, |out| pointwise::relu(&a, out), map(&a, reference::relu));
        let bent = map(&a, |x| reference::tanh_clamp(x, factor));
        call.check(out_len, |out| pointwise::tanh_clamp(&a, factor, out), bent);
        call.check(out_len, |out| pointwise::scale(&a, factor, out), map(&a, |x| x * factor));
        let b = numbers(2, skews[1].of(len), Values::Wild);
        call.fault(b.len() != len, Fault::Length);
        let pairs = |f: fn(f32, f32) -> f32| {
            let (a, b) = (&a, &b);
            move |out: &mut [f32]| (0..out.len()).for_each(|i| out[i] = f(a[i], b[i]))
        };
        call.check(out_len, |out| pointwise::add(&a, &b, out), pairs(|a, b| a + b));
        call.check(out_len, |out| pointwise::mul(&a, &b, out), pairs(|a, b| a * b));
        let mut call = Call::default();
        call.fault(b.len() != len, Fault::Length);
        call.check_in_place(&a, |sum| pointwise::add_assign(sum, &b), pairs(|a, b| a + b));
    }

    #[test]
    fn geglu_and_channel_terms_refuse_or_are_right(
        outer in dimension(), inner in dimension(), skews in skews::<5>(),
    ) {
        let mut call = Call::default();
        let x = call.slice(&[outer, 2, inner], skews[0]);
        let len = call.length(&[outer, inner], skews[1]);
        call.check(len, |out| pointwise::geglu(&x, outer, inner, out), |out| {
            for (i, out) in out.iter_mut().enumerate() {
                let value = i / inner * 2 * inner + i % inner;
                *out = x[value] * reference::gelu(x[value + inner]);
            }
        });
        let mut call = Call::default();
        let (x, bias) = (call.slice(&[outer, inner], skews[2]), call.slice(&[outer], skews[3]));
        let len = call.length(&[outer, inner], skews[4]);
        call.check(
            len,
            |out| pointwise::add_channels(&x, &bias, outer, inner, out),
            |out| (0..out.len()).for_each(|i| out[i] = x[i] + bias[i / inner]),
        );
        let mut call = Call::default();
        let (x, bias) = (call.slice(&[outer, inner], skews[2]), call.slice(&[outer], skews[3]));
        call.check_in_place(
            &x,
            |x| pointwise::add_channels_assign(x, &bias, outer, inner),
            |x| (0..x.len()).for_each(|i| x[i] += bias[i / inner]),
        );
    }

    #[test]
    fn transposing_refuses_or_is_right(
        batch in dimension(), rows in prop_oneof![dimension(), 30usize..70], columns in dimension(),
        skews in skews::<2>(),
    ) {
        let mut call = Call::default();
        let x = call.slice(&[batch, rows, columns], skews[0]);
        let len = call.length(&[batch, columns, rows], skews[1]);
        call.check(len, |out| pointwise::transpose(&x, batch, rows, columns, out), |out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (matrix, column, row) = (i / (rows * columns), i / rows % columns, i % rows);
                *out = x[(matrix * rows + row) * columns + column];
            }
        });
    }

    #[test]
    fn upsampling_refuses_or_is_right(
        planes in dimension(), h in dimension(), w in dimension(), to in (dimension(), dimension()),
        skews in skews::<3>(),
    ) {
        let mut call = Call::default();
        let x = call.slice(&[planes, h, w], skews[0]);
        let faults = call.faults.clone();
        let len = call.length(&[planes, h, 2, w, 2], skews[1]);
        call.check(len, |out| pointwise::upsample_nearest_2x(&x, planes, h, w, out), |out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = x[i / (2 * w) / 2 * w + i % (2 * w) / 2];
            }
        });
        call.faults = faults;
        let len = call.length(&[planes, to.0, to.1], skews[2]);
        call.check(
            len,
            |out| pointwise::upsample_bilinear(&x, planes, (h, w), to, out),
            |out| reference::upsample_bilinear(&x, (h, w), to, out),
        );
    }

    #[test]
    fn norms_of_rows_refuse_or_are_right(
        count in dimension(), width in dimension(), skews in skews::<4>(), eps in 0f32..1.0,
    ) {
        let mut call = Call::default();
        let x = call.slice(&[count, width], skews[0]);
        let len = call.length(&[count, width], skews[1]);
        call.check(len, |out| softmax(&x, count, width, out), rows(&x, width, reference::softmax));
        let (weight, bias) = (call.slice(&[width], skews[2]), call.slice(&[width], skews[3]));
        call.check(
            len,
            |out| layer_norm(&x, count, width, &weight, &bias, eps, out),
            rows(&x, width, |x, out| reference::layer_norm(x, &weight, &bias, eps, out)),
        );
    }

    #[test]
    fn group_norms_refuse_or_are_right(
        batch in dimension(), (channels, groups) in prop_oneof![
            (1usize..6, 1usize..6).prop_map(|(of, groups)| (of * groups, groups)),
            (dimension(), dimension()),
        ],
        spatial in dimension(), skews in skews::<4>(), eps in 0f32..1.0,
    ) {
        let mut call = Call::default();
        let shape = GroupNormShape { batch, channels, spatial, groups };
        let x = call.slice(&[batch, channels, spatial], skews[0]);
        let len = call.length(&[batch, channels, spatial], skews[1]);
        let (weight, bias) = (call.slice(&[channels], skews[2]), call.slice(&[channels], skews[3]));
        call.fault(!divides(groups, channels), Fault::NotDivisible);
        let define = |out: &mut [f32]| define_groups(&x, &shape, &weight, &bias, eps, out);
        call.check(len, |out| group_norm(&x, &shape, &weight, &bias, eps, out), define);
        call.check(len, |out| group_norm_silu(&x, &shape, &weight, &bias, eps, out), |out| {
            define(out);
            out.iter_mut().for_each(|x| *x = reference::silu(*x));
        });
        let mut call = Call::default();
        let x = call.slice(&[batch, channels, spatial], skews[0]);
        let (weight, bias) = (call.slice(&[channels], skews[2]), call.slice(&[channels], skews[3]));
        call.fault(!divides(groups, channels), Fault::NotDivisible);
        call.check_in_place(
            &x,
            |x| group_norm_silu_in_place(x, &shape, &weight, &bias, eps),
            |out| {
                define_groups(&x, &shape, &weight, &bias, eps, out);
                out.iter_mut().for_each(|x| *x = reference::silu(*x));
            },
        );
    }

    #[test]
    fn linear_layers_refuse_or_are_right(
        count in dimension(), inputs in dimension(), outputs in dimension(), biased: bool, skews in skews::<4>(),
    ) {
        let mut call = Call::default();
        let weight = call.slice(&[outputs, inputs], skews[0]);
        let bias = biased.then(|| call.slice(&[outputs], skews[1]));
        let layer = call.judge(PackedLinear::new(&weight, outputs, inputs, bias.as_deref()));
        let Some(layer) = layer else { return Ok(()) };
        let x = call.slice(&[count, inputs], skews[2]);
        let len = call.length(&[count, outputs], skews[3]);
        call.check(
            len,
            |out| layer.forward(&x, count, out),
            |out| reference::linear(&x, &weight, inputs, bias.as_deref(), out),
        );
    }

    #[test]
    fn products_refuse_or_are_right(
        batch in dimension(), m in dimension(), k in dimension(), n in dimension(), skews in skews::<3>(),
    ) {
        let mut call = Call::default();
        let (a, b) = (call.slice(&[batch, m, k], skews[0]), call.slice(&[batch, k, n], skews[1]));
        let len = call.length(&[batch, m, n], skews[2]);
        call.check(
            len,
            |out| batched_matmul(&a, &b, out, batch, m, k, n),
            |out| reference::batched_matmul(&a, &b, out, m, k, n),
        );
    }

    #[test]
    fn attention_refuses_or_is_right(
        sizes in [dimension(), dimension(), dimension(), dimension()], kv_len in dimension(), causal: bool,
        square: bool, scale in -2f32..2.0, skews in skews::<4>(),
    ) {
        let [batch, heads, q_len, head_dim] = sizes;
        let kv_len = if square { q_len } else { kv_len };
        let shape = AttentionShape { batch, heads, q_len, kv_len, head_dim };
        let mask = if causal { Mask::Causal } else { Mask::None };
        let mut call = Call::default();
        let (queries, keys) = ([batch, q_len, heads, head_dim], [batch, kv_len, heads, head_dim]);
        let q = call.slice(&queries, skews[0]);
        let (k, v) = (call.slice(&keys, skews[1]), call.slice(&keys, skews[2]));
        let len = call.length(&queries, skews[3]);
        call.fault(causal && q_len != kv_len, Fault::CausalLengths);
        call.check(
            len,
            |out| attention(&q, &k, &v, &shape, scale, mask, out),
            |out| reference::attention((&q, &k, &v), &shape, scale, mask, out),
        );
    }

    #[test]
    fn convolutions_refuse_or_are_right(
        channels in (dimension(), dimension()), kernel in (kernels(), kernels()),
        stride in prop_oneof![6 => 1usize..4, 1 => Just(0), 4 => absurd()],
        padding in vec(prop_oneof![4 => 0usize..3, 1 => absurd()], 4),
        (n, h, w) in (dimension(), dimension(), dimension()), biased: bool, skews in skews::<4>(),
    ) {
        let (kernel_h, kernel_w) = kernel;
        let shape = ConvShape { out_channels: channels.0, in_channels: channels.1, kernel_h, kernel_w };
        let padding = Padding { top: padding[0], bottom: padding[1], left: padding[2], right: padding[3] };
        let mut call = Call::default();
        let weight = call.slice(&[channels.0, channels.1, kernel_h, kernel_w], skews[0]);
        let bias = biased.then(|| call.slice(&[channels.0], skews[1]));
        call.fault(stride == 0, Fault::Zero);
        let conv = call.judge(PackedConv2d::new(&weight, shape, bias.as_deref(), stride, padding));
        let Some(conv) = conv else { return Ok(()) };
        let (out_h, out_w) = note_size(&mut call, &shape, stride, &padding, (h, w));
        if let Some(size) = call.judge(conv.out_size(h, w)) {
            prop_assert_eq!(size, (out_h, out_w));
        }
        let x = call.slice(&[n, channels.1, h, w], skews[2]);
        let len = call.length(&[n, channels.0, out_h, out_w], skews[3]);
        call.check(len, |out| conv.forward(&x, n, h, w, out), |out| {
            let (of_x, of_out) = (x.len() / n, out.len() / n);
            for (x, out) in x.chunks_exact(of_x).zip(out.chunks_exact_mut(of_out)) {
                reference::conv2d(x, (h, w), &weight, &shape, bias.as_deref(), (stride, padding), out);
            }
        });
    }
}

proptest! {
    // Fewer, since each runs everywhere: no other test has operands with gaps and repetitions.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_of_views_refuse_or_are_right(
        sizes in [dimension(), dimension(), dimension(), dimension()],
        strides in vec(strides(), 6),
        lengths in [lengths(), lengths()], skews in skews::<1>(),
        values in values(),
    ) {
        let [batch, m, k, n] = sizes;
        let mut call = Call::default();
        let (a, b) = (numbers(1, lengths[0], values), numbers(2, lengths[1], values));
        let view = |data, rows, columns, strides: &[Option<usize>]| {
            let whole = Strided::contiguous(data, rows, columns);
            Strided {
                batch_stride: strides[0].unwrap_or(whole.batch_stride),
                row_stride: strides[1].unwrap_or(whole.row_stride),
                column_stride: strides[2].unwrap_or(whole.column_stride),
                ..whole
            }
        };
        let (left, right) = (view(&a, m, k, &strides[..3]), view(&b, k, n, &strides[3..]));
        note_view(&mut call, &left, [batch, m, k]);
        note_view(&mut call, &right, [batch, k, n]);
        let len = call.length(&[batch, m, n], skews[0]);
        everywhere(|_| {
            call.check(len, |out| batched_matmul_strided(&left, &right, out, batch, m, k, n), |out| {
                let (a, b) = (gathered(&left, [batch, m, k]), gathered(&right, [batch, k, n]));
                reference::batched_matmul(&a, &b, out, m, k, n);
            });
        });
    }
}

/// The elements of a view, one after the other.
fn gathered(view: &Strided<'_>, [batch, rows, columns]: [usize; 3]) -> Vec<f32> {
    let at = |i: usize| {
        let (b, r, c) = (i / (rows * columns), i / columns % rows, i % columns);
        view.data[b * view.batch_stride + r * view.row_stride + c * view.column_stride]
    };
    (0..batch * rows * columns).map(at).collect()
}

#[test]
fn no_kernel_is_left_out() {
    let ours = include_str!("main.rs");
    let sources = [
        include_str!("../../src/attention/mod.rs"),
        include_str!("../../src/conv/mod.rs"),
        include_str!("../../src/linear.rs"),
        include_str!("../../src/matmul.rs"),
        include_str!("../../src/norm.rs"),
        include_str!("../../src/pointwise.rs"),
    ];
    let mut found = 0;
    for item in sources.iter().flat_map(|source| source.split("pub fn ").skip(1)) {
        let (name, _) = item.split_once(['(', '<']).expect("arguments follow the name");
        let (signature, _) = item.split_once('{').expect("a body follows the signature");
        if signature.contains("Result<") {
            found += 1;
            assert!(ours.contains(&format!("{name}(")), "nothing is thrown at {name}");
        }
    }
    assert!(found >= 26, "only {found} fallible functions");
}
