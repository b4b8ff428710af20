//! PyTorch's draws; `tests/parity/torch_noise.py` wrote the references.

use std::path::PathBuf;

use seedfarm_core::digest;
use serde_json::Value;

use super::*;

fn references() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/golden/torch_noise.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Draws what each case of `list` describes, from one generator in order, and holds each draw against it.
fn draws_are_those_of(list: &Value, source: NoiseSource) {
    for case in list.as_array().unwrap() {
        let seed = case["seed"].as_str().unwrap().parse().unwrap();
        let mut stream = NoiseStream::new(source, seed);
        for (number, draw) in (0..).zip(case["draws"].as_array().unwrap()) {
            let mut values = vec![0.0; draw["length"].as_u64().unwrap() as usize];
            stream.draw(number, &mut values).unwrap();
            assert_eq!(differs(draw, &values), None, "{source:?}, seed {seed}, draw {number}");
        }
    }
}

/// How the values differ from what the reference tells of them.
fn differs(draw: &Value, values: &[f32]) -> Option<String> {
    let bits = |values: &[f32]| -> Vec<String> {
        values.iter().map(|value| format!("{:08x}", value.to_bits())).collect()
    };
    if let Some(all) = draw["bits"].as_array() {
        return (bits(values) != *all).then(|| format!("{:?}", bits(values)));
    }
    let ends = [&values[..2], &values[values.len() - 2..]].concat();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let digest = seedfarm_core::ArtifactDigest::from_bytes(digest::sha256(&bytes)).to_string();
    let same = bits(&ends) == *draw["ends"].as_array().unwrap() && digest == draw["sha256"].as_str().unwrap();
    (!same).then(|| format!("{} elements, {:?}, {digest}", values.len(), bits(&ends)))
}

#[test]
fn noise_of_torch_on_the_cpu_has_its_bits_for_short_and_long_draws_in_a_row() {
    draws_are_those_of(&references()["cpu"], NoiseSource::TorchCpu);
}

#[test]
fn noise_of_torch_on_cuda_has_the_bits_of_the_twin() {
    draws_are_those_of(&references()["cuda_twin"], NoiseSource::TorchCuda);
}

#[test]
fn more_of_a_devices_noise_than_all_devices_agree_on_is_refused() {
    let mut stream = NoiseStream::new(NoiseSource::TorchCuda, 1);
    let error = stream.draw(0, &mut vec![0.0; 70_000]).unwrap_err().to_string();
    assert!(error.contains("70000") && error.contains("65536"), "{error}");
}
