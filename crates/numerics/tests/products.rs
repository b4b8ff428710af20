//! Linear layers and batched products against the scalar definition, bit for bit.

mod support;

use proptest::prelude::*;
use seedfarm_numerics::matmul::{Strided, batched_matmul, batched_matmul_strided};
use seedfarm_numerics::{NumericsError, PackedLinear, reference};
use support::{assert_same, everywhere, numbers, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_linear_layer_is_the_definition(
        rows in prop_oneof![1usize..60, 180usize..220], k in 1usize..600, n in 1usize..100, biased: bool,
        seed: u64, values in values(),
    ) {
        let weight = numbers(seed, n * k, values);
        let bias = numbers(seed ^ 1, n, values);
        let bias = biased.then_some(bias.as_slice());
        let x = numbers(seed ^ 2, rows * k, values);
        let mut expected = vec![0.0; rows * n];
        reference::linear(&x, &weight, k, bias, &mut expected);
        let layer = PackedLinear::new(&weight, n, k, bias).unwrap();
        everywhere(|case| {
            let mut out = vec![f32::NAN; rows * n];
            layer.forward(&x, rows, &mut out).unwrap();
            assert_same(&out, &expected, case);
        });
    }

    #[test]
    fn a_batched_product_is_the_definition(
        batch in 1usize..4, m in 1usize..50, k in 1usize..300, n in 1usize..70,
        seed: u64, values in values(),
    ) {
        let a = numbers(seed, batch * m * k, values);
        let b = numbers(seed ^ 1, batch * k * n, values);
        let mut expected = vec![0.0; batch * m * n];
        reference::batched_matmul(&a, &b, &mut expected, m, k, n);
        let mut turned = vec![0.0; b.len()];
        for (i, &value) in b.iter().enumerate() {
            let (batch, row, column) = (i / (k * n), i / n % k, i % n);
            turned[(batch * n + column) * k + row] = value;
        }
        everywhere(|case| {
            let mut out = vec![f32::NAN; batch * m * n];
            batched_matmul(&a, &b, &mut out, batch, m, k, n).unwrap();
            assert_same(&out, &expected, case);
            out.fill(f32::NAN);
            let (a, b) = (Strided::contiguous(&a, m, k), Strided::contiguous(&turned, n, k));
            batched_matmul_strided(&a, &b.transposed(), &mut out, batch, m, k, n).unwrap();
            assert_same(&out, &expected, &format!("transposed, {case}"));
        });
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(
        rows in 1usize..=8, k in 1usize..700, n in 1usize..100, seed: u64,
    ) {
        let weight = numbers(seed, n * k, support::Values::Normal);
        let layer = PackedLinear::new(&weight, n, k, None).unwrap();
        let x = numbers(seed ^ 2, rows * k, support::Values::Normal);
        let mut together = vec![0.0; rows * n];
        layer.forward(&x, rows, &mut together).unwrap();
        for (row, x) in x.chunks_exact(k).enumerate() {
            let mut alone = vec![0.0; n];
            layer.forward(x, 1, &mut alone).unwrap();
            assert_same(&alone, &together[row * n..][..n], &format!("row {row}"));
        }
    }
}

#[test]
fn wrong_shapes_are_refused_with_their_values() {
    let layer = PackedLinear::new(&[0.0; 6], 2, 3, None).unwrap();
    let error = layer.forward(&[0.0; 7], 2, &mut [0.0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "wrong length of the input: 7 elements, but the shape [2, 3] needs 6");
    let error = layer.forward(&[], 0, &mut []).unwrap_err();
    assert!(matches!(error, NumericsError::ZeroDimension { .. }), "{error}");
    let error = PackedLinear::new(&[], usize::MAX, 2, None).unwrap_err();
    assert!(matches!(error, NumericsError::Overflow { .. }), "{error}");
    let error = PackedLinear::new(&[0.0; 6], 2, 3, Some(&[0.0; 3])).unwrap_err();
    assert_eq!(error.to_string(), "wrong length of the bias: 3 elements, but the shape [2] needs 2");
    let view = Strided { data: &[0.0; 6], batch_stride: 0, row_stride: 4, column_stride: 1 };
    let whole = Strided::contiguous(&[0.0; 6], 3, 2);
    let error = batched_matmul_strided(&view, &whole, &mut [0.0; 4], 1, 2, 3, 2).unwrap_err();
    assert_eq!(error.to_string(), "the strides of the left matrix reach element 6 of a slice of 6");
}
