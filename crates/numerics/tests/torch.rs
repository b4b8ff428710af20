//! Accuracy against PyTorch. `golden/torch_ops.py` makes the file and says what each line holds.

use seedfarm_numerics::norm::{GroupNormShape, group_norm, group_norm_silu, layer_norm, softmax};
use seedfarm_numerics::{
    AttentionShape, ConvShape, Mask, NumericsError, PackedConv2d, PackedLinear, Padding, attention, pointwise,
};

/// One operation: its integers, its inputs, and at last its results.
struct Case {
    integers: Vec<usize>,
    tensors: Vec<Vec<f32>>,
}

fn parse(line: &str) -> Case {
    let (head, tensors) = line.split_once(" : ").expect("a colon");
    let numbers = |text: &str| text.split(' ').map(|word| word.parse().expect("a number")).collect();
    Case {
        integers: head.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect(),
        tensors: tensors.split(" ; ").map(numbers).collect(),
    }
}

/// Runs `check` on every line of that name, of which there must be `count`.
fn for_each(name: &str, count: usize, check: impl Fn(&Case)) {
    let lines = include_str!("golden/torch_ops.txt").lines();
    let cases: Vec<Case> = lines.filter(|line| line.split(' ').next() == Some(name)).map(parse).collect();
    assert_eq!(cases.len(), count, "lines of {name}");
    cases.iter().for_each(check);
}

/// As numpy's allclose: within 1e-5 absolute and relative.
#[track_caller]
fn assert_close(ours: &[f32], expected: &[f32]) {
    assert_within(1e-5, ours, expected);
}

#[track_caller]
fn assert_within(limit: f32, ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len());
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= limit + limit * b.abs(), "element {i} is {a}, PyTorch has {b}");
    }
}

#[test]
fn convolutions_agree_with_pytorch() {
    for_each("conv", 4, |case| {
        let &[out_channels, in_channels, kernel, stride, left, right, top, bottom, n, h, w] =
            case.integers.as_slice()
        else {
            panic!("eleven integers")
        };
        let [x, weight, bias, expected] = case.tensors.as_slice() else { panic!("four tensors") };
        let shape = ConvShape { out_channels, in_channels, kernel_h: kernel, kernel_w: kernel };
        let padding = Padding { top, bottom, left, right };
        let conv = PackedConv2d::new(weight, shape, Some(bias), stride, padding).unwrap();
        let mut out = vec![0.0; expected.len()];
        conv.forward(x, n, h, w, &mut out).unwrap();
        assert_close(&out, expected);
    });
}

#[test]
fn group_norms_agree_with_pytorch() {
    for_each("group_norm", 2, |case| {
        let &[batch, channels, spatial, groups] = case.integers.as_slice() else { panic!("four integers") };
        let [x, weight, bias, plain, activated] = case.tensors.as_slice() else { panic!("five tensors") };
        let shape = GroupNormShape { batch, channels, spatial, groups };
        let mut out = vec![0.0; x.len()];
        group_norm(x, &shape, weight, bias, 1e-5, &mut out).unwrap();
        assert_close(&out, plain);
        group_norm_silu(x, &shape, weight, bias, 1e-5, &mut out).unwrap();
        assert_close(&out, activated);
    });
}

#[test]
fn layer_norms_agree_with_pytorch() {
    for_each("layer_norm", 1, |case| {
        let [x, weight, bias, expected] = case.tensors.as_slice() else { panic!("four tensors") };
        let mut out = vec![0.0; x.len()];
        layer_norm(x, case.integers[0], case.integers[1], weight, bias, 1e-5, &mut out).unwrap();
        assert_close(&out, expected);
    });
}

#[test]
fn attention_agrees_with_pytorch() {
    for_each("attention", 2, |case| {
        let &[batch, heads, q_len, kv_len, head_dim, causal] = case.integers.as_slice() else {
            panic!("six integers")
        };
        let [q, k, v, expected] = case.tensors.as_slice() else { panic!("four tensors") };
        let shape = AttentionShape { batch, heads, q_len, kv_len, head_dim };
        let mask = if causal == 1 { Mask::Causal } else { Mask::None };
        let mut out = vec![0.0; q.len()];
        attention(q, k, v, &shape, 1.0 / (head_dim as f32).sqrt(), mask, &mut out).unwrap();
        assert_close(&out, expected);
    });
}

#[test]
fn linear_layers_agree_with_pytorch() {
    for_each("linear", 1, |case| {
        let &[rows, inputs, outputs] = case.integers.as_slice() else { panic!("three integers") };
        let [x, weight, bias, expected] = case.tensors.as_slice() else { panic!("four tensors") };
        let layer = PackedLinear::new(weight, outputs, inputs, Some(bias)).unwrap();
        let mut out = vec![0.0; expected.len()];
        layer.forward(x, rows, &mut out).unwrap();
        assert_close(&out, expected);
    });
}

#[test]
fn softmax_agrees_with_pytorch() {
    for_each("softmax", 1, |case| {
        let mut out = vec![0.0; case.tensors[1].len()];
        softmax(&case.tensors[0], case.integers[0], case.integers[1], &mut out).unwrap();
        assert_close(&out, &case.tensors[1]);
    });
}

#[test]
fn activations_agree_with_pytorch() {
    type Function = fn(&[f32], &mut [f32]) -> Result<(), NumericsError>;
    let functions: [(&str, Function); 6] = [
        ("silu", pointwise::silu),
        ("gelu", pointwise::gelu),
        ("gelu_tanh", pointwise::gelu_tanh),
        ("quick_gelu", pointwise::quick_gelu),
        ("relu", pointwise::relu),
        ("tanh_clamp", |x, out| pointwise::tanh_clamp(x, 3.0, out)),
    ];
    for (name, function) in functions {
        for_each(name, 1, |case| {
            let mut out = vec![0.0; case.integers[0]];
            function(&case.tensors[0], &mut out).unwrap();
            assert_close(&out, &case.tensors[1]);
        });
    }
    for_each("geglu", 1, |case| {
        let mut out = vec![0.0; case.tensors[1].len()];
        pointwise::geglu(&case.tensors[0], case.integers[0], case.integers[1], &mut out).unwrap();
        assert_close(&out, &case.tensors[1]);
    });
}

#[test]
fn upsampling_agrees_with_pytorch() {
    for_each("upsample", 1, |case| {
        let &[planes, h, w] = case.integers.as_slice() else { panic!("three integers") };
        let mut out = vec![0.0; case.tensors[1].len()];
        pointwise::upsample_nearest_2x(&case.tensors[0], planes, h, w, &mut out).unwrap();
        assert_eq!(out, case.tensors[1]);
    });
}

#[test]
fn bilinear_upsampling_agrees_with_pytorch() {
    for_each("bilinear", 3, |case| {
        let &[planes, h, w, out_h, out_w] = case.integers.as_slice() else { panic!("five integers") };
        let mut out = vec![0.0; case.tensors[1].len()];
        pointwise::upsample_bilinear(&case.tensors[0], planes, (h, w), (out_h, out_w), &mut out).unwrap();
        assert_within(1e-6, &out, &case.tensors[1]);
    });
}
