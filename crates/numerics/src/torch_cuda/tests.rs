use super::*;

// Published in modules/rng_philox.py of AUTOMATIC1111's stable-diffusion-webui for seed 0 and 12 elements, as
// what `torch.randn(12, device="cuda")` gives.
const PUBLISHED: [f32; 12] = [
    -0.924_662_6,
    -0.425_344_15,
    -2.643_845_7,
    0.145_183_88,
    -0.120_866_47,
    -0.579_725_6,
    -0.622_851_2,
    -0.328_387_1,
    -1.074_542_3,
    -0.363_144_07,
    -1.671_050_7,
    2.265_505,
];

#[test]
fn the_first_elements_are_the_published_ones() {
    let mut values = [0.0; 12];
    Generator::new(0).standard_normal(&mut values).unwrap();
    for (ours, theirs) in values.iter().zip(PUBLISHED) {
        assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
    }
}

#[test]
fn an_element_does_not_depend_on_the_length() {
    let (mut long, mut short) = ([0.0; 1000], [0.0; 7]);
    Generator::new(5).standard_normal(&mut long).unwrap();
    Generator::new(5).standard_normal(&mut short).unwrap();
    assert_eq!(long[..7], short);
}

#[test]
fn a_second_draw_differs_and_too_long_a_one_is_refused_and_draws_nothing() {
    let (mut first, mut second) = ([0.0; 4], [0.0; 4]);
    let mut generator = Generator::new(9);
    generator.standard_normal(&mut first).unwrap();
    let error = generator.standard_normal(&mut vec![0.0; MOST_ELEMENTS + 1]).unwrap_err();
    assert!(error.to_string().contains("65537") && error.to_string().contains("65536"), "{error}");
    generator.standard_normal(&mut second).unwrap();
    let mut again = Generator::new(9);
    again.standard_normal(&mut [0.0; 4]).unwrap();
    let mut third = [0.0; 4];
    again.standard_normal(&mut third).unwrap();
    assert_eq!(second, third);
    assert_ne!(first, second);
}
