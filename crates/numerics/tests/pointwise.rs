//! Operations on each element against the scalar definition, bit for bit.

mod support;

use proptest::prelude::*;
use seedfarm_numerics::{NumericsError, math, pointwise, reference};
use support::{Values, assert_same, everywhere, numbers, values};

/// A function over slices and its definition for one element.
type Function = fn(&[f32], &mut [f32]) -> Result<(), NumericsError>;
type Definition = fn(f32) -> f32;

const FUNCTIONS: [(&str, Function, Definition); 7] = [
    ("silu", pointwise::silu, reference::silu),
    ("sigmoid", pointwise::sigmoid, math::sigmoid),
    ("gelu", pointwise::gelu, reference::gelu),
    ("gelu_tanh", pointwise::gelu_tanh, reference::gelu_tanh),
    ("quick_gelu", pointwise::quick_gelu, reference::quick_gelu),
    ("relu", pointwise::relu, reference::relu),
    ("tanh_clamp", |x, out| pointwise::tanh_clamp(x, 3.0, out), |x| reference::tanh_clamp(x, 3.0)),
];

/// About a hundred thousand f32 of all magnitudes and both signs, with NaN and infinities.
fn all_magnitudes() -> Vec<f32> {
    (0..=u32::MAX).step_by(40_009).map(f32::from_bits).chain([f32::INFINITY, -0.0]).collect()
}

#[test]
fn functions_are_the_definition_at_all_magnitudes() {
    let x = all_magnitudes();
    for (name, function, definition) in FUNCTIONS {
        let expected: Vec<f32> = x.iter().map(|&x| definition(x)).collect();
        everywhere(|case| {
            let mut out = vec![0.0; x.len()];
            function(&x, &mut out).unwrap();
            assert_same(&out, &expected, &format!("{name}, {case}"));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arithmetic_is_the_definition(
        len in 1usize..40_000, factor: f32, seed: u64, values in values(),
    ) {
        let a = numbers(seed, len, values);
        let b = numbers(seed ^ 1, len, values);
        let pairs = || a.iter().zip(&b);
        let sum: Vec<f32> = pairs().map(|(a, b)| a + b).collect();
        let product: Vec<f32> = pairs().map(|(a, b)| a * b).collect();
        let scaled: Vec<f32> = a.iter().map(|a| a * factor).collect();
        everywhere(|case| {
            let mut out = vec![0.0; len];
            pointwise::add(&a, &b, &mut out).unwrap();
            assert_same(&out, &sum, case);
            out.copy_from_slice(&a);
            pointwise::add_assign(&mut out, &b).unwrap();
            assert_same(&out, &sum, &format!("in place, {case}"));
            pointwise::mul(&a, &b, &mut out).unwrap();
            assert_same(&out, &product, case);
            pointwise::scale(&a, factor, &mut out).unwrap();
            assert_same(&out, &scaled, case);
        });
    }

    #[test]
    fn geglu_is_the_definition(
        rows in 1usize..90, width in 1usize..300, seed: u64, values in values(),
    ) {
        let x = numbers(seed, rows * 2 * width, values);
        let expected: Vec<f32> = (0..rows * width)
            .map(|i| {
                let value = i / width * 2 * width + i % width;
                x[value] * reference::gelu(x[value + width])
            })
            .collect();
        everywhere(|case| {
            let mut out = vec![0.0; rows * width];
            pointwise::geglu(&x, rows, width, &mut out).unwrap();
            assert_same(&out, &expected, case);
        });
    }

    #[test]
    fn channel_terms_and_upsampling_are_the_definition(
        planes in 1usize..40, h in 1usize..30, w in 1usize..30, seed: u64,
    ) {
        let x = numbers(seed, planes * h * w, Values::Wild);
        let bias = numbers(seed ^ 1, planes, Values::Normal);
        let shifted: Vec<f32> = x.iter().enumerate().map(|(i, x)| x + bias[i / (h * w)]).collect();
        let enlarged: Vec<f32> = (0..4 * x.len())
            .map(|i| {
                let (row, column) = (i / (2 * w), i % (2 * w));
                x[row / 2 * w + column / 2]
            })
            .collect();
        everywhere(|case| {
            let mut out = vec![0.0; x.len()];
            pointwise::add_channels(&x, &bias, planes, h * w, &mut out).unwrap();
            assert_same(&out, &shifted, case);
            let mut out = vec![0.0; 4 * x.len()];
            pointwise::upsample_nearest_2x(&x, planes, h, w, &mut out).unwrap();
            assert_same(&out, &enlarged, case);
        });
    }

    #[test]
    fn bilinear_upsampling_is_the_definition(
        planes in 1usize..5, size in (1usize..30, 1usize..30), to in (1usize..150, 1usize..150),
        seed: u64, values in values(),
    ) {
        let x = numbers(seed, planes * size.0 * size.1, values);
        let mut expected = vec![0.0; planes * to.0 * to.1];
        reference::upsample_bilinear(&x, size, to, &mut expected);
        everywhere(|case| {
            let mut out = vec![0.0; expected.len()];
            pointwise::upsample_bilinear(&x, planes, size, to, &mut out).unwrap();
            assert_same(&out, &expected, case);
        });
    }
}

#[test]
fn a_picture_resized_to_its_own_size_stays_as_it_is() {
    let x = numbers(9, 3 * 37 * 53, Values::Normal);
    let mut out = vec![0.0; x.len()];
    pointwise::upsample_bilinear(&x, 3, (37, 53), (37, 53), &mut out).unwrap();
    assert_same(&out, &x, "the same size");
}

#[test]
fn wrong_lengths_are_refused_with_their_values() {
    let error = pointwise::add(&[0.0; 3], &[0.0; 2], &mut [0.0; 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wrong length of the second operand: 2 elements, but the shape [3] needs 3"
    );
    let error = pointwise::silu(&[0.0; 3], &mut [0.0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "wrong length of the output: 4 elements, but the shape [3] needs 3");
    let error = pointwise::geglu(&[0.0; 6], 2, 2, &mut [0.0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "wrong length of the input: 6 elements, but the shape [2, 2, 2] needs 8");
}
