//! The kernels against an implementation in numpy that was written from `docs/DETERMINISM.md`.

use seedfarm_numerics::norm::{GroupNormShape, group_norm, layer_norm, softmax};
use seedfarm_numerics::{
    AttentionShape, ConvShape, Isa, Mask, NumericsError, PackedConv2d, PackedLinear, Padding, attention,
    math, matmul, philox, pointwise,
};

/// As `numbers` of the script.
fn numbers(salt: u32, len: usize) -> Vec<f32> {
    let word = |i| philox::philox4x32_10([i, 0, 0, 0], [salt, 0])[0];
    (0..len as u32).map(|i| (word(i) >> 8) as f32 / 2_097_152.0 - 4.0).collect()
}

/// 64-bit FNV-1a over the bits, little endian.
fn digest(values: &[f32]) -> u64 {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Compares what `compute` writes to `len` places, under every instruction set.
#[track_caller]
fn check(name: &str, len: usize, compute: impl Fn(&mut [f32]) -> Result<(), NumericsError>) {
    let line = |line: &&str| line.split(' ').next() == Some(name);
    let golden = include_str!("golden/specification.txt").lines().find(line).expect("a line of that name");
    let (_, expected) = golden.split_once(' ').expect("a name and a digest");
    for isa in Isa::supported() {
        let mut out = vec![f32::NAN; len];
        let result = isa.scoped(|| compute(&mut out)).expect("it is supported");
        result.expect("the shapes match");
        assert_eq!(format!("{:016x}", digest(&out)), expected, "{name}, {isa}");
    }
}

/// Writes `f` of each `x`.
fn each(x: &[f32], f: fn(f32) -> f32) -> impl Fn(&mut [f32]) -> Result<(), NumericsError> {
    move |out| {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x));
        Ok(())
    }
}

#[test]
fn products_follow_the_specification() {
    check("inputs", 1000, each(&numbers(0, 1000), |x| x));
    let linear = PackedLinear::new(&numbers(2, 40 * 600), 40, 600, Some(&numbers(3, 40))).unwrap();
    let x = numbers(1, 5 * 600);
    check("linear", 5 * 40, |out| linear.forward(&x, 5, out));
    let (a, b) = (numbers(4, 7 * 300), numbers(5, 300 * 33));
    check("matmul", 7 * 33, |out| matmul::batched_matmul(&a, &b, out, 1, 7, 300, 33));
}

#[test]
fn convolutions_follow_the_specification() {
    let shape = ConvShape { out_channels: 13, in_channels: 30, kernel_h: 3, kernel_w: 3 };
    let (weight, bias) = (numbers(7, 13 * 30 * 9), numbers(8, 13));
    let conv = PackedConv2d::new(&weight, shape, Some(&bias), 1, Padding::all(1)).unwrap();
    let x = numbers(6, 2 * 30 * 6 * 9);
    check("conv3x3", 2 * 13 * 6 * 9, |out| conv.forward(&x, 2, 6, 9, out));

    let shape = ConvShape { out_channels: 4, in_channels: 5, kernel_h: 3, kernel_w: 3 };
    let (weight, bias) = (numbers(10, 4 * 5 * 9), numbers(11, 4));
    let padding = Padding { top: 0, bottom: 1, left: 0, right: 1 };
    let conv = PackedConv2d::new(&weight, shape, Some(&bias), 2, padding).unwrap();
    let x = numbers(9, 5 * 8 * 10);
    check("conv_down", 4 * 4 * 5, |out| conv.forward(&x, 1, 8, 10, out));
}

#[test]
fn attention_follows_the_specification() {
    let shape = AttentionShape { batch: 2, heads: 2, q_len: 5, kv_len: 300, head_dim: 8 };
    let (q, k, v) = (numbers(12, 2 * 5 * 16), numbers(13, 2 * 300 * 16), numbers(14, 2 * 300 * 16));
    check("attention", q.len(), |out| attention(&q, &k, &v, &shape, 0.35, Mask::None, out));
    let shape = AttentionShape { batch: 1, heads: 2, q_len: 40, kv_len: 40, head_dim: 8 };
    let (q, k, v) = (numbers(15, 40 * 16), numbers(16, 40 * 16), numbers(17, 40 * 16));
    check("causal", q.len(), |out| attention(&q, &k, &v, &shape, 0.35, Mask::Causal, out));
}

#[test]
fn norms_follow_the_specification() {
    let shape = GroupNormShape { batch: 2, channels: 12, spatial: 50, groups: 3 };
    let (x, weight, bias) = (numbers(18, 2 * 12 * 50), numbers(19, 12), numbers(20, 12));
    check("group_norm", x.len(), |out| group_norm(&x, &shape, &weight, &bias, 1e-5, out));
    let (x, weight, bias) = (numbers(21, 3 * 77), numbers(22, 77), numbers(23, 77));
    check("layer_norm", x.len(), |out| layer_norm(&x, 3, 77, &weight, &bias, 1e-5, out));
    let x: Vec<f32> = numbers(24, 3 * 100).iter().map(|x| x * 4.0).collect();
    check("softmax", x.len(), |out| softmax(&x, 3, 100, out));
}

#[test]
fn functions_follow_the_specification() {
    let base = numbers(25, 500);
    let scales = [1e-38, 0.01, 0.25, 1.0, 4.0, 30.0];
    let x: Vec<f32> = scales.iter().flat_map(|scale| base.iter().map(move |x| x * scale)).collect();
    check("exp", x.len(), each(&x, math::exp));
    check("sigmoid", x.len(), |out| pointwise::sigmoid(&x, out));
    check("tanh", x.len(), each(&x, math::tanh));
    check("erf", x.len(), each(&x, math::erf));
    check("silu", x.len(), |out| pointwise::silu(&x, out));
    check("gelu", x.len(), |out| pointwise::gelu(&x, out));
    check("gelu_tanh", x.len(), |out| pointwise::gelu_tanh(&x, out));
    check("quick_gelu", x.len(), |out| pointwise::quick_gelu(&x, out));
    check("relu", x.len(), |out| pointwise::relu(&x, out));
    check("tanh_clamp", x.len(), |out| pointwise::tanh_clamp(&x, 3.0, out));
    let halves = [numbers(26, 90), numbers(27, 90)].concat();
    check("geglu", 90, |out| pointwise::geglu(&halves, 1, 90, out));
}

#[test]
fn upsampling_follows_the_specification() {
    let x = numbers(29, 2 * 5 * 7);
    for (name, to) in [("bilinear", (13, 16)), ("bilinear_down", (3, 4))] {
        check(name, 2 * to.0 * to.1, |out| pointwise::upsample_bilinear(&x, 2, (5, 7), to, out));
    }
}

#[test]
fn waves_follow_the_specification() {
    let base = numbers(28, 200);
    let scales = [0.01, 1.0, 300.0, 1e20, 1e37];
    let angles: Vec<f32> = scales.iter().flat_map(|scale| base.iter().map(move |x| x * scale)).collect();
    check("sin", angles.len(), each(&angles, math::sin));
    check("cos", angles.len(), each(&angles, math::cos));
}

/// Without this, kernels that were left out everywhere would be missed by nobody.
#[test]
fn the_instruction_sets_of_this_processor_are_found() {
    let found: Vec<String> = Isa::supported().map(|isa| isa.to_string()).collect();
    assert_eq!(found[0], "portable");
    assert_eq!(found.contains(&"neon".to_owned()), cfg!(target_arch = "aarch64"));
    // `cargo xtask everywhere` knows the processor that it emulates.
    if let Ok(expected) = std::env::var("SEEDFARM_TEST_ISAS") {
        assert_eq!(found.join(" "), expected);
        let fused = Isa::require_fused();
        assert_eq!(fused.is_err(), expected == "portable", "{fused:?}");
    }
}
