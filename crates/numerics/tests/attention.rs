//! Attention against the scalar definition, bit for bit.

mod support;

use proptest::prelude::*;
use seedfarm_numerics::{AttentionShape, Mask, NumericsError, attention, reference};
use support::{Values, assert_same, everywhere, numbers, values};

prop_compose! {
    fn shapes()(
        batch in 1usize..4, heads in 1usize..4, q_len in 1usize..80, kv_len in 1usize..300,
        head_dim in 1usize..50,
    ) -> AttentionShape {
        AttentionShape { batch, heads, q_len, kv_len, head_dim }
    }
}

fn operands(shape: &AttentionShape, seed: u64, values: Values) -> [Vec<f32>; 3] {
    let width = shape.heads * shape.head_dim;
    [
        numbers(seed, shape.batch * shape.q_len * width, values),
        numbers(seed ^ 1, shape.batch * shape.kv_len * width, values),
        numbers(seed ^ 2, shape.batch * shape.kv_len * width, values),
    ]
}

fn check(shape: &AttentionShape, scale: f32, mask: Mask, seed: u64, values: Values) {
    let [q, k, v] = operands(shape, seed, values);
    let mut expected = vec![0.0; q.len()];
    reference::attention((&q, &k, &v), shape, scale, mask, &mut expected);
    everywhere(|case| {
        let mut out = vec![f32::NAN; q.len()];
        attention(&q, &k, &v, shape, scale, mask, &mut out).expect("the shapes match");
        assert_same(&out, &expected, case);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attention_is_the_definition(
        shape in shapes(), scale in -2f32..2.0, seed: u64, values in values(),
    ) {
        check(&shape, scale, Mask::None, seed, values);
    }

    #[test]
    fn causal_attention_is_the_definition(
        shape in shapes(), scale in -2f32..2.0, seed: u64, values in values(),
    ) {
        let shape = AttentionShape { kv_len: shape.q_len, ..shape };
        check(&shape, scale, Mask::Causal, seed, values);
    }

    #[test]
    fn a_sequence_does_not_depend_on_its_neighbours(shape in shapes(), batch in 1usize..=8, seed: u64) {
        let shape = AttentionShape { batch, ..shape };
        let [q, k, v] = operands(&shape, seed, Values::Normal);
        let mut together = vec![0.0; q.len()];
        attention(&q, &k, &v, &shape, 0.3, Mask::None, &mut together).unwrap();
        let one = AttentionShape { batch: 1, ..shape };
        let (of_q, of_k) = (q.len() / batch, k.len() / batch);
        for i in 0..batch {
            let mut alone = vec![0.0; of_q];
            let (q, k, v) = (&q[i * of_q..][..of_q], &k[i * of_k..][..of_k], &v[i * of_k..][..of_k]);
            attention(q, k, v, &one, 0.3, Mask::None, &mut alone).unwrap();
            assert_same(&alone, &together[i * of_q..][..of_q], &format!("sequence {i}"));
        }
    }
}

#[test]
fn wrong_shapes_are_refused_with_their_values() {
    let shape = AttentionShape { batch: 1, heads: 1, q_len: 2, kv_len: 3, head_dim: 1 };
    let (q, kv) = ([0.0; 2], [0.0; 3]);
    let error = attention(&q, &kv, &kv, &shape, 1.0, Mask::Causal, &mut [0.0; 2]).unwrap_err();
    assert_eq!(error.to_string(), "a causal mask needs as many keys as queries, not 3 keys for 2 queries");
    let error = attention(&q, &q, &kv, &shape, 1.0, Mask::None, &mut [0.0; 2]).unwrap_err();
    assert_eq!(error.to_string(), "wrong length of the keys: 2 elements, but the shape [1, 3, 1, 1] needs 3");
    let empty = AttentionShape { heads: 0, ..shape };
    let error = attention(&[], &[], &[], &empty, 1.0, Mask::None, &mut []).unwrap_err();
    assert!(matches!(error, NumericsError::ZeroDimension { .. }), "{error}");
}
