//! Norms and softmax against the scalar definition, bit for bit.

mod support;

use proptest::prelude::*;
use seedfarm_numerics::norm::{
    GroupNormShape, group_norm, group_norm_silu, group_norm_silu_in_place, layer_norm, softmax,
};
use seedfarm_numerics::{NumericsError, reference};
use support::{Values, assert_same, everywhere, numbers, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_group_norm_is_the_definition(
        batch in 1usize..4, groups in 1usize..5, per_group in 1usize..40, spatial in 1usize..200,
        seed: u64, values in values(),
    ) {
        let channels = groups * per_group;
        let shape = GroupNormShape { batch, channels, spatial, groups };
        let x = numbers(seed, batch * channels * spatial, values);
        let weight = numbers(seed ^ 1, channels, Values::Normal);
        let bias = numbers(seed ^ 2, channels, Values::Normal);
        let mut expected = vec![0.0; x.len()];
        let size = per_group * spatial;
        for (i, (x, out)) in x.chunks_exact(size).zip(expected.chunks_exact_mut(size)).enumerate() {
            let first = i % groups * per_group;
            let (weight, bias) = (&weight[first..][..per_group], &bias[first..][..per_group]);
            reference::group_norm(x, spatial, weight, bias, 1e-5, out);
        }
        let activated: Vec<f32> = expected.iter().map(|&x| reference::silu(x)).collect();
        everywhere(|case| {
            let mut out = vec![f32::NAN; x.len()];
            group_norm(&x, &shape, &weight, &bias, 1e-5, &mut out).unwrap();
            assert_same(&out, &expected, case);
            group_norm_silu(&x, &shape, &weight, &bias, 1e-5, &mut out).unwrap();
            assert_same(&out, &activated, &format!("with silu, {case}"));
            let mut out = x.clone();
            group_norm_silu_in_place(&mut out, &shape, &weight, &bias, 1e-5).unwrap();
            assert_same(&out, &activated, &format!("in place, {case}"));
        });
    }

    #[test]
    fn a_layer_norm_is_the_definition(
        rows in 1usize..60, width in 1usize..400, seed: u64, values in values(),
    ) {
        let x = numbers(seed, rows * width, values);
        let weight = numbers(seed ^ 1, width, Values::Normal);
        let bias = numbers(seed ^ 2, width, Values::Normal);
        let mut expected = vec![0.0; x.len()];
        for (x, out) in x.chunks_exact(width).zip(expected.chunks_exact_mut(width)) {
            reference::layer_norm(x, &weight, &bias, 1e-5, out);
        }
        everywhere(|case| {
            let mut out = vec![f32::NAN; x.len()];
            layer_norm(&x, rows, width, &weight, &bias, 1e-5, &mut out).unwrap();
            assert_same(&out, &expected, case);
        });
    }

    #[test]
    fn a_softmax_is_the_definition(
        rows in 1usize..60, width in 1usize..400, seed: u64, values in values(),
    ) {
        let x = numbers(seed, rows * width, values);
        let mut expected = vec![0.0; x.len()];
        for (x, out) in x.chunks_exact(width).zip(expected.chunks_exact_mut(width)) {
            reference::softmax(x, out);
        }
        everywhere(|case| {
            let mut out = vec![f32::NAN; x.len()];
            softmax(&x, rows, width, &mut out).unwrap();
            assert_same(&out, &expected, case);
        });
    }
}

#[test]
fn large_tensors_that_take_many_jobs_are_the_definition() {
    let (rows, width) = (300, 257);
    let x = numbers(5, rows * width, Values::Normal);
    let mut expected = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(width).zip(expected.chunks_exact_mut(width)) {
        reference::softmax(x, out);
    }
    everywhere(|case| {
        let mut out = vec![0.0; x.len()];
        softmax(&x, rows, width, &mut out).unwrap();
        assert_same(&out, &expected, case);
    });
}

#[test]
fn a_softmax_row_with_nan_or_only_minus_infinity_is_nan() {
    let hidden = f32::NEG_INFINITY;
    let mut out = [0.0; 6];
    softmax(&[1.0, f32::NAN, 2.0, hidden, hidden, hidden], 2, 3, &mut out).unwrap();
    assert!(out.iter().all(|x| x.is_nan()), "{out:?}");
    softmax(&[0.0, hidden, -0.0, 3.0, 3.0, hidden], 2, 3, &mut out).unwrap();
    assert_eq!(out, [0.5, 0.0, 0.5, 0.5, 0.5, 0.0]);
}

#[test]
fn wrong_shapes_are_refused_with_their_values() {
    let shape = GroupNormShape { batch: 1, channels: 6, spatial: 1, groups: 4 };
    let six = [0.0; 6];
    let error = group_norm(&six, &shape, &six, &six, 1e-5, &mut [0.0; 6]).unwrap_err();
    assert_eq!(error.to_string(), "the number of channels is 6, which is not a multiple of 4");
    let shape = GroupNormShape { groups: 0, ..shape };
    let error = group_norm(&six, &shape, &six, &six, 1e-5, &mut [0.0; 6]).unwrap_err();
    assert!(matches!(error, NumericsError::NotDivisible { .. }), "{error}");
    let error = layer_norm(&six, 2, 3, &six, &six[..3], 1e-5, &mut [0.0; 6]).unwrap_err();
    assert_eq!(error.to_string(), "wrong length of the weight: 6 elements, but the shape [3] needs 3");
    let error = softmax(&[], 0, 3, &mut []).unwrap_err();
    assert!(matches!(error, NumericsError::ZeroDimension { .. }), "{error}");
}
