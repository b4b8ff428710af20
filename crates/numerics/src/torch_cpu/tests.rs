use super::*;

// torch 2.15.0 on x86-64 with AVX2; many more are in tests/parity/golden/torch_noise.json:
//   g = torch.Generator("cpu").manual_seed(0)
//   [x.view(torch.int32).tolist() for x in (torch.randn(1, generator=g), torch.randn(2, generator=g))]
#[test]
fn short_tensors_are_those_of_torch() {
    let mut generator = Generator::new(0);
    let (mut one, mut two) = ([0.0; 1], [0.0; 2]);
    generator.standard_normal(&mut one);
    generator.standard_normal(&mut two);
    assert_eq!([one[0], two[0], two[1]].map(f32::to_bits), [0x3fc5_3f5c, 0xbe96_3c50, 0xc00b_7149]);
}

#[test]
fn only_the_low_half_of_a_seed_counts() {
    let draw = |seed: u64| {
        let mut values = [0.0; 40];
        Generator::new(seed).standard_normal(&mut values);
        values
    };
    assert_eq!(draw(7), draw(7 + (1 << 32)));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn every_length_is_drawn_whole() {
    for length in 0..70 {
        let mut values = vec![f32::NAN; length];
        Generator::new(3).standard_normal(&mut values);
        assert!(values.iter().all(|value| value.is_finite()), "{length}");
    }
}
