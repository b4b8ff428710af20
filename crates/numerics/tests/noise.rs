//! Philox against Random123's published vectors, and the noise against numpy.

use seedfarm_numerics::philox::{philox4x32_10, standard_normal};

/// From `kat_vectors` of Random123 1.14: counter, key, result.
const KNOWN_ANSWERS: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
    ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
    ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ),
];

#[test]
fn philox_meets_the_published_vectors() {
    for (counter, key, expected) in KNOWN_ANSWERS {
        assert_eq!(philox4x32_10(counter, key), expected, "counter {counter:x?}, key {key:x?}");
    }
}

#[test]
fn noise_equals_an_independent_implementation() {
    let mut compared = 0;
    for line in include_str!("golden/noise.txt").lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let (seed, draw, first) = (number(), number() as u32, number() as usize);
        let mut noise = vec![0.0; first + 8];
        standard_normal(seed, draw, &mut noise);
        for (i, expected) in words.enumerate() {
            let expected = u32::from_str_radix(expected, 16).unwrap();
            let bits = noise[first + i].to_bits();
            assert_eq!(bits, expected, "seed {seed}, draw {draw}, element {}", first + i);
            compared += 1;
        }
    }
    assert_eq!(compared, 6 * 4 * 4 * 8);
}

#[test]
fn an_element_does_not_depend_on_how_many_are_drawn() {
    let mut long = vec![0.0; 1001];
    standard_normal(7, 3, &mut long);
    for length in [1, 2, 3, 64, 999] {
        let mut short = vec![0.0; length];
        standard_normal(7, 3, &mut short);
        assert_eq!(short, long[..length]);
    }
}

#[test]
fn noise_has_the_moments_of_a_normal_distribution() {
    let mut noise = vec![0.0f32; 1 << 18];
    standard_normal(2026, 0, &mut noise);
    let moment =
        |power: i32| noise.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / noise.len() as f64;
    // Five standard errors of each moment.
    assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
    assert!((moment(2) - 1.0).abs() < 0.014, "variance {}", moment(2));
    assert!(moment(3).abs() < 0.038, "third moment {}", moment(3));
    assert!((moment(4) - 3.0).abs() < 0.096, "fourth moment {}", moment(4));
}
