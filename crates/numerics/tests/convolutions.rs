//! Convolutions against the scalar definition, bit for bit.

mod support;

use proptest::prelude::*;
use seedfarm_numerics::{ConvShape, NumericsError, PackedConv2d, Padding, reference};
use support::{Values, assert_same, everywhere, numbers, values};

prop_compose! {
    fn shapes()(
        // From 57 channels on, the taps of a 3x3 kernel take several blocks.
        out_channels in 1usize..30, in_channels in prop_oneof![4 => 1usize..40, 1 => 57usize..80],
        kernel_h in 1usize..4, kernel_w in 1usize..4,
    ) -> ConvShape {
        ConvShape { out_channels, in_channels, kernel_h, kernel_w }
    }
}

prop_compose! {
    fn paddings()(top in 0usize..3, bottom in 0usize..3, left in 0usize..3, right in 0usize..3)
    -> Padding {
        Padding { top, bottom, left, right }
    }
}

prop_compose! {
    /// Widths about the sizes that the kernels treat apart.
    fn sides()(h in 3usize..12, w in prop_oneof![3usize..40, Just(64usize), 60usize..70])
    -> (usize, usize) {
        (h, w)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_convolution_is_the_definition(
        shape in shapes(), stride in 1usize..4, padding in paddings(), (h, w) in sides(),
        n in 1usize..4, biased: bool, seed: u64, values in values(),
    ) {
        let taps = shape.in_channels * shape.kernel_h * shape.kernel_w;
        let weight = numbers(seed, shape.out_channels * taps, values);
        let bias = numbers(seed ^ 1, shape.out_channels, values);
        let bias = biased.then_some(bias.as_slice());
        let conv = PackedConv2d::new(&weight, shape, bias, stride, padding).unwrap();
        let (out_h, out_w) = conv.out_size(h, w).unwrap();
        let x = numbers(seed ^ 2, n * shape.in_channels * h * w, values);
        let mut expected = vec![0.0; n * shape.out_channels * out_h * out_w];
        let each = (x.len() / n, expected.len() / n);
        for (x, out) in x.chunks_exact(each.0).zip(expected.chunks_exact_mut(each.1)) {
            reference::conv2d(x, (h, w), &weight, &shape, bias, (stride, padding), out);
        }
        everywhere(|case| {
            let mut out = vec![f32::NAN; expected.len()];
            conv.forward(&x, n, h, w, &mut out).unwrap();
            assert_same(&out, &expected, case);
        });
    }

    #[test]
    fn a_picture_does_not_depend_on_its_neighbours(
        shape in shapes(), (h, w) in sides(), n in 1usize..=8, seed: u64,
    ) {
        let taps = shape.in_channels * shape.kernel_h * shape.kernel_w;
        let weight = numbers(seed, shape.out_channels * taps, Values::Normal);
        let conv = PackedConv2d::new(&weight, shape, None, 1, Padding::all(1)).unwrap();
        let (out_h, out_w) = conv.out_size(h, w).unwrap();
        let x = numbers(seed ^ 2, n * shape.in_channels * h * w, Values::Normal);
        let mut together = vec![0.0; n * shape.out_channels * out_h * out_w];
        conv.forward(&x, n, h, w, &mut together).unwrap();
        let each = (x.len() / n, together.len() / n);
        for (x, together) in x.chunks_exact(each.0).zip(together.chunks_exact(each.1)) {
            let mut alone = vec![0.0; each.1];
            conv.forward(x, 1, h, w, &mut alone).unwrap();
            assert_same(&alone, together, "alone");
        }
    }
}

#[test]
fn wrong_shapes_are_refused_with_their_values() {
    let shape = ConvShape { out_channels: 1, in_channels: 1, kernel_h: 3, kernel_w: 3 };
    let conv = PackedConv2d::new(&[0.0; 9], shape, None, 1, Padding::default()).unwrap();
    let error = conv.out_size(2, 5).unwrap_err();
    assert_eq!(error.to_string(), "a 3x3 kernel does not fit a picture of 2x5 after padding");
    let error = conv.out_size(usize::MAX, 5).map(|_| ());
    assert_eq!(error, Ok(()), "a size alone takes no memory");
    let padded = PackedConv2d::new(&[0.0; 9], shape, None, 1, Padding::all(1)).unwrap();
    let error = padded.out_size(usize::MAX, 5).unwrap_err();
    assert!(matches!(error, NumericsError::Overflow { .. }), "{error}");
    let error = conv.forward(&[0.0; 25], 2, 5, 5, &mut [0.0; 18]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wrong length of the input: 25 elements, but the shape [2, 1, 5, 5] needs 50"
    );
    let error = PackedConv2d::new(&[0.0; 9], shape, None, 0, Padding::default()).unwrap_err();
    assert_eq!(error.to_string(), "zero in the shape [0] of the stride; every dimension must be at least 1");
}
