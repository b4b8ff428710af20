//! LoRAs against diffusers with PEFT; `tests/parity/lora.py` wrote the references.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use seedfarm_core::{ArtifactDigest, Numerics};
use seedfarm_numerics::philox;
use serde_json::Value;

use super::{Adapters, Lora, ModelShape};
use crate::DeviceSpec;
use crate::config::unet::UnetConfig;
use crate::networks::Networks;
use crate::ops::Ops;
use crate::source::{ModelSource, Part};
use crate::unet::Conditions;

const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn parity() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

fn spec() -> Value {
    serde_json::from_slice(&std::fs::read(parity().join("golden/lora.json")).unwrap()).unwrap()
}

fn loras(case: &Value) -> Vec<Lora> {
    let lora = |lora: &Value| Lora {
        path: parity().join("adapters").join(lora["file"].as_str().unwrap()),
        weight: lora["weight"].as_f64().unwrap(),
        text_weight: lora["text_weight"].as_f64().unwrap(),
    };
    case["loras"].as_array().unwrap().iter().map(lora).collect()
}

fn networks(case: &Value, numerics: Numerics) -> Networks {
    let folder = parity().join("models").join(case["model"].as_str().unwrap());
    let ops = Ops::new(numerics, DeviceSpec::Cpu.open(numerics).unwrap());
    let adapters = Adapters { loras: loras(case), ..Adapters::default() };
    Networks::load(&ModelSource::open(&folder).unwrap(), &adapters, ops).unwrap()
}

fn relative_error(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!(ours.dims(), theirs.dims());
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (flat(ours), flat(theirs));
    let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn texts_and_predictions_with_loras_are_those_of_diffusers() {
    let spec = spec();
    let golden =
        candle_core::safetensors::load(parity().join("golden/lora.safetensors"), &Device::Cpu).unwrap();
    for case in spec["cases"].as_array().unwrap() {
        for numerics in Numerics::ALL {
            check_case(&spec, case, numerics, &golden);
        }
    }
}

fn check_case(spec: &Value, case: &Value, numerics: Numerics, golden: &HashMap<String, Tensor>) {
    let (name, model) = (case["name"].as_str().unwrap(), case["model"].as_str().unwrap());
    let networks = networks(case, numerics);
    let text = networks.encode(spec["prompt"].as_str().unwrap()).unwrap();
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let shape: Vec<f64> = numbers(&spec["latents"][model]);
    let shape: Vec<usize> = shape.into_iter().map(|side| side as usize).collect();
    let mut latents = vec![0.0; shape.iter().product()];
    philox::standard_normal(spec["noise_seed"].as_str().unwrap().parse().unwrap(), 0, &mut latents);
    let latents = Tensor::from_vec(latents, shape, &Device::Cpu).unwrap();
    let time_ids: Vec<f64> = numbers(&spec["time_ids"]);
    let conditions =
        Conditions { pooled: text.pooled.clone(), time_ids: time_ids.try_into().unwrap(), guidance: 1.0 };
    let unet = &networks.unet;
    let keys = unet.text_keys(&text.hidden).unwrap();
    let added = unet.added(&[conditions]).unwrap();
    let timestep = spec["timestep"].as_f64().unwrap();
    let prediction = unet.forward(&latents, &[timestep], &keys, added.as_ref(), None).unwrap();
    let mut outputs = vec![("text", text.hidden), ("prediction", prediction)];
    outputs.extend(text.pooled.map(|pooled| ("pooled", pooled)));
    for (output, ours) in outputs {
        let error = relative_error(&ours, &golden[&format!("{name}/{output}")]);
        assert!(error < LARGEST_RELATIVE_ERROR, "{name} {numerics:?} {output}: {error}");
    }
}

#[test]
fn a_lora_with_a_weight_of_zero_changes_no_bit() {
    let case = |weight: f64| {
        serde_json::json!({"model": "tiny-sd1", "loras": [
            {"file": "kohya-attention.safetensors", "weight": weight, "text_weight": weight},
        ]})
    };
    let text = |weight: f64| {
        let hidden = networks(&case(weight), Numerics::Strict).encode("a horse").unwrap().hidden;
        hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let none = serde_json::json!({"model": "tiny-sd1", "loras": []});
    let plain = networks(&none, Numerics::Strict).encode("a horse").unwrap().hidden;
    assert_eq!(text(0.0), plain.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert_ne!(text(0.5), text(0.0));
}

/// `tests/parity/strict_adapters.py` computed the digests from the specification.
#[test]
fn merged_weights_have_the_bits_that_the_specification_gives() {
    let strict = std::fs::read(parity().join("golden/strict_adapters.json")).unwrap();
    let strict: Value = serde_json::from_slice(&strict).unwrap();
    let spec = spec();
    let cases = spec["cases"].as_array().unwrap();
    for merged in strict["merged"].as_array().unwrap() {
        let case = cases.iter().find(|case| case["name"] == merged["case"]).unwrap();
        let source =
            ModelSource::open(&parity().join("models").join(case["model"].as_str().unwrap())).unwrap();
        let unet = UnetConfig::read(&source.config(Part::Unet).unwrap()).unwrap();
        let shape = ModelShape { unet: &unet, text_widths: &[30] };
        let patches = Adapters { loras: loras(case), ..Adapters::default() }.open(&shape).unwrap().unet;
        let weights = source.weights(Part::Unet).unwrap().with_patches(patches);
        let dims: Vec<usize> =
            merged["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
        let ops = Ops::new(Numerics::Strict, Device::Cpu);
        let values = weights.root(&ops).values(merged["tensor"].as_str().unwrap(), &dims).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let digest = ArtifactDigest::of_bytes(&bytes).to_string();
        assert_eq!(digest, merged["sha256"].as_str().unwrap(), "{merged}");
    }
}
