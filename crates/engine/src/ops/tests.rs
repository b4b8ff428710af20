//! Strict operations take tensors whatever their layout: a transposed or narrowed view has the bits of a
//! copy in row-major order.

use candle_core::{Device, Tensor};
use seedfarm_core::Numerics;
use seedfarm_numerics::philox;

use super::{Attention, Conv2d, GroupNorm, LayerNorm, Linear, Ops};
use crate::Result;
use crate::weights::WeightsFile;

fn strict() -> Ops {
    Ops::new(Numerics::Strict, Device::Cpu)
}

/// Normal numbers, others for each `draw`.
fn numbers(draw: u32, dims: &[usize]) -> Tensor {
    let mut values = vec![0.0; dims.iter().product()];
    philox::standard_normal(3, draw, &mut values);
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// The same tensor as views that do not lie in row-major order: with each pair of dimensions stored the
/// other way round, as the middle of a larger tensor, and as every second number of one.
fn views(x: &Tensor) -> Vec<Tensor> {
    let rank = x.rank();
    let pairs = (0..rank).flat_map(|a| (a + 1..rank).map(move |b| (a, b)));
    let transposed = pairs
        .filter(|(a, b)| x.dims()[*a] > 1 && x.dims()[*b] > 1)
        .map(|(a, b)| x.transpose(a, b).unwrap().contiguous().unwrap().transpose(a, b).unwrap());
    let other = numbers(99, x.dims());
    let narrowed = (0..rank).map(|dim| {
        let margin = other.narrow(dim, 0, 1).unwrap();
        let wide = Tensor::cat(&[&margin, x, &margin], dim).unwrap();
        wide.narrow(dim, 1, x.dims()[dim]).unwrap()
    });
    let every_second = Tensor::stack(&[x, &other], rank).unwrap().narrow(rank, 0, 1).unwrap();
    transposed.chain(narrowed).chain([every_second.squeeze(rank).unwrap()]).collect()
}

fn bits(x: &Tensor) -> (Vec<usize>, Vec<u32>) {
    let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (x.dims().to_vec(), values.into_iter().map(f32::to_bits).collect())
}

/// Holds `compute` of every view of `x` against `compute` of `x`.
#[track_caller]
fn check(name: &str, x: &Tensor, compute: impl Fn(&Tensor) -> Result<Tensor>) {
    assert!(x.is_contiguous());
    let expected = bits(&compute(x).unwrap());
    let views = views(x);
    assert!(views.iter().any(|view| !view.is_contiguous()));
    for view in views {
        let (shape, strides) = (view.dims(), view.stride());
        assert_eq!(bits(&view), bits(x), "the view of {shape:?} by {strides:?} is another tensor");
        let bits = bits(&compute(&view).unwrap());
        assert!(bits == expected, "{name} of {shape:?} by {strides:?}");
    }
}

#[test]
fn functions_and_sums_take_any_layout() {
    let (ops, x, other) = (strict(), numbers(0, &[2, 6, 5, 4]), numbers(1, &[2, 6, 5, 4]));
    check("silu", &x, |x| ops.silu(x));
    check("gelu", &x, |x| ops.gelu(x));
    check("quick_gelu", &x, |x| ops.quick_gelu(x));
    check("relu", &x, |x| ops.relu(x));
    check("tanh_clamp", &x, |x| ops.tanh_clamp(x, 3.0));
    check("geglu", &x, |x| ops.geglu(x));
    check("upsample2x", &x, |x| ops.upsample2x(x));
    check("add, left", &x, |x| ops.add(x, &other));
    check("add, right", &x, |x| ops.add(&other, x));
    check("transpose", &numbers(3, &[2, 7, 5]), |x| ops.transpose(x));
    check("add_into, sum", &x, |x| ops.add_into(x.copy()?, &other));
    check("add_into, term", &x, |x| ops.add_into(other.copy()?, x));
    let row = numbers(2, &[1, 6]);
    check("add_channels_into, pixels", &x, |x| ops.add_channels_into(x.copy()?, &row));
    check("add_channels_into, row", &row, |row| ops.add_channels_into(x.copy()?, row));
}

#[test]
fn operations_in_place_give_what_the_others_give() {
    let (ops, x, other) = (strict(), numbers(0, &[2, 6, 5, 4]), numbers(1, &[2, 6, 5, 4]));
    let sum = ops.add_into(x.copy().unwrap(), &other).unwrap();
    assert_eq!(bits(&sum), bits(&ops.add(&x, &other).unwrap()));
    let transposed = ops.transpose(&numbers(2, &[2, 70, 33])).unwrap();
    assert_eq!(
        bits(&transposed),
        bits(&numbers(2, &[2, 70, 33]).transpose(1, 2).unwrap().contiguous().unwrap())
    );
}

#[test]
fn attention_takes_any_layout() {
    let ops = strict();
    let (q, k, v) = (numbers(0, &[2, 7, 12]), numbers(1, &[2, 7, 12]), numbers(2, &[2, 7, 12]));
    for causal in [false, true] {
        let shape = Attention { heads: 3, causal };
        check("attention, queries", &q, |q| ops.attention(q, &k, &v, shape));
        check("attention, keys", &k, |k| ops.attention(&q, k, &v, shape));
        check("attention, values", &v, |v| ops.attention(&q, &k, v, shape));
    }
}

#[test]
fn layers_take_any_layout() {
    let tensors = [
        ("linear.weight", numbers(10, &[9, 5])),
        ("linear.bias", numbers(11, &[9])),
        ("conv.weight", numbers(12, &[4, 6, 3, 3])),
        ("conv.bias", numbers(13, &[4])),
        ("group.weight", numbers(14, &[6])),
        ("group.bias", numbers(15, &[6])),
        ("layer.weight", numbers(16, &[5])),
        ("layer.bias", numbers(17, &[5])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layers.safetensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path).unwrap();
    let (ops, file) = (strict(), WeightsFile::open(&path).unwrap());
    let weights = file.root(&ops);

    let rows = numbers(0, &[2, 7, 5]);
    let linear = Linear::load(&weights.at("linear"), 5, 9, true).unwrap();
    check("linear", &rows, |x| linear.forward(x));
    let norm = LayerNorm::load(&weights.at("layer"), 5, 1e-5).unwrap();
    check("layer norm", &rows, |x| norm.forward(x));

    let planes = numbers(1, &[2, 6, 5, 7]);
    for stride in [1, 2] {
        let conv = Conv2d::load(&weights.at("conv"), 6, 4, 3, stride).unwrap();
        check("convolution", &planes, |x| conv.forward(x));
    }
    let norm = GroupNorm::load(&weights.at("group"), 3, 6, 1e-5).unwrap();
    check("group norm", &planes, |x| norm.forward(x));
    check("group norm and silu", &planes, |x| norm.forward_silu(x));
    check("group norm and silu in place", &planes, |x| norm.forward_silu_into(x.copy()?));
    let in_place = norm.forward_silu_into(planes.copy().unwrap()).unwrap();
    assert_eq!(bits(&in_place), bits(&norm.forward_silu(&planes).unwrap()));
}
