//! Against the specification, bit for bit: `tests/parity/strict_conditions.py` follows it in numpy and shares no
//! code with the engine.

use seedfarm_core::{ArtifactDigest, Numerics, digest};

use super::*;
use crate::clip::Encoded;

const SCALES: [f64; 3] = [1.0, 0.3, -1.7];

/// The digests that the twin wrote, which are crossed out one by one.
struct Twin(serde_json::Map<String, Value>);

impl Twin {
    /// Those whose names start with one of `prefixes`.
    fn read(prefixes: &[&str]) -> Self {
        let path = parity().join("golden/strict_conditions.json");
        let all: serde_json::Map<String, Value> =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        Self(
            all.into_iter()
                .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
                .collect(),
        )
    }

    #[track_caller]
    fn agrees(&mut self, name: &str, ours: &Tensor) {
        let theirs = self.0.remove(name).unwrap_or_else(|| panic!("the twin did not write {name}"));
        let bytes: Vec<u8> = flat(ours).iter().flat_map(|value| value.to_le_bytes()).collect();
        let ours = ArtifactDigest::from_bytes(digest::sha256(&bytes)).to_string();
        assert_eq!(ours, theirs.as_str().unwrap(), "{name}");
    }

    fn is_through(&self) {
        assert!(self.0.is_empty(), "left: {:?}", self.0.keys());
    }
}

/// Bytes that no row, column or plane repeats, divided by 255.
fn stripes(index: usize) -> Tensor {
    let byte = |place: usize| {
        let (plane, y, x) = (place / (72 * 56), place / 56 % 72, place % 56);
        ((plane * 85 + y * 7 + x * 3 + index * 31) % 256) as f32
    };
    let values: Vec<f32> = (0..3 * 72 * 56).map(|place| byte(place) / 255.0).collect();
    Tensor::from_vec(values, (1, 3, 72, 56), &Device::Cpu).unwrap()
}

fn rows(golden: &Golden, pointer: &str) -> TokenRow {
    let ids: Vec<u32> = golden.numbers(pointer).into_iter().map(|id| id as u32).collect();
    ids.into()
}

fn control(net: &ControlNet, shown: &Input, hint: &Tensor, scale: f64) -> Residuals {
    let hint = net.hint(hint).unwrap();
    let keys = net.text_keys(&shown.texts).unwrap();
    let added = net.added(&shown.conditions).unwrap();
    let call = Call {
        latents: &shown.latents,
        timesteps: &shown.timesteps,
        text_keys: &keys,
        added: added.as_ref(),
        hint: &hint,
        scale,
    };
    net.forward(&call).unwrap()
}

#[test]
fn left_out_layers_nine_channels_and_a_controlnet_have_the_bits_of_the_specification() {
    let (golden, mut twin) = (Golden::networks(), Twin::read(&["inpaint/", "control/"]));
    let networks = networks("tiny-inpaint", Numerics::Strict);
    let encoder = &networks.texts[0].encoder;
    let encode = |index: usize, skip: usize| {
        encoder.forward(&rows(&golden, &format!("/tokens/{index}")), skip).unwrap().hidden
    };
    for (index, skip) in (0..SAMPLES).flat_map(|index| (0..4).map(move |skip| (index, skip))) {
        twin.agrees(&format!("inpaint/text/{index}/skip_{skip}"), &encode(index, skip));
    }
    let texts: Vec<Tensor> = (0..SAMPLES).map(|index| encode(index, 0)).collect();
    let mut input = Input {
        latents: latents(62, 4),
        timesteps: golden.numbers("/timesteps"),
        texts: Tensor::cat(&texts, 0).unwrap(),
        conditions: none(),
        residuals: None,
    };
    let net = ControlNet::load(&folder("tiny-control"), &ops(Numerics::Strict)).unwrap();
    let terms = control(&net, &input, &stripes(0), SCALES[1]);
    for (index, term) in terms.down.iter().chain([&terms.mid]).enumerate() {
        twin.agrees(&format!("control/term_{index}"), term);
    }
    input.latents = latents(61, 9);
    twin.agrees("inpaint/prediction", &input.predict(&networks.unet));
    input.residuals = Some(terms);
    twin.agrees("control/prediction", &input.predict(&networks.unet));
    twin.is_through();
}

#[test]
fn both_encoders_sizes_and_two_controlnets_have_the_bits_of_the_specification() {
    let (xl, golden) = (Golden::sdxl(), Golden::networks());
    let mut twin = Twin::read(&["xl/", "control_xl/"]);
    let networks = networks("tiny-sdxl", Numerics::Strict);
    let encode = |index: usize, skip: usize| {
        let part = |(place, part): (usize, &crate::prompt::TextPart)| {
            part.encoder.forward(&rows(&xl, &format!("/tokens/{index}/{place}")), skip).unwrap()
        };
        Encoded::join(networks.texts.iter().enumerate().map(part).collect()).unwrap()
    };
    for (index, skip) in (0..SAMPLES).flat_map(|index| (0..3).map(move |skip| (index, skip))) {
        twin.agrees(&format!("xl/text/{index}/skip_{skip}"), &encode(index, skip).hidden);
    }
    let texts: Vec<Encoded> = (0..SAMPLES).map(|index| encode(index, 0)).collect();
    let hidden: Vec<&Tensor> = texts.iter().map(|text| &text.hidden).collect();
    let mut input = Input {
        latents: latents(63, 4),
        timesteps: golden.numbers("/timesteps"),
        texts: Tensor::cat(&hidden, 0).unwrap(),
        conditions: pooled(&xl, &golden, "/time_ids"),
        residuals: None,
    };
    for (index, text) in texts.into_iter().enumerate() {
        twin.agrees(&format!("xl/text/{index}/pooled"), text.pooled.as_ref().unwrap());
        input.conditions[index].pooled = text.pooled;
    }
    twin.agrees("xl/prediction", &input.predict(&networks.unet));
    let ops = ops(Numerics::Strict);
    let net = ControlNet::load(&folder("tiny-control-xl"), &ops).unwrap();
    let one = control(&net, &input, &stripes(1), SCALES[0]);
    let two = control(&net, &input, &stripes(2), SCALES[2]);
    input.residuals = Some(one.add(&ops, &two).unwrap());
    twin.agrees("control_xl/prediction", &input.predict(&networks.unet));
    twin.is_through();
}

#[test]
fn the_guidance_scale_and_uneven_depths_have_the_bits_of_the_specification() {
    let (golden, mut twin) = (Golden::networks(), Twin::read(&["distilled/", "uneven/"]));
    let mut input = Input {
        latents: latents(65, 4),
        timesteps: golden.numbers("/timesteps"),
        texts: normal(64, &[SAMPLES, 5, 10]),
        conditions: none(),
        residuals: None,
    };
    for (condition, guidance) in input.conditions.iter_mut().zip(golden.numbers("/guidance")) {
        condition.guidance = guidance;
    }
    twin.agrees("distilled/prediction", &input.predict(&networks("tiny-distilled", Numerics::Strict).unet));
    input.latents = latents(66, 8);
    twin.agrees("uneven/prediction", &input.predict(&uneven(Numerics::Strict)));
    twin.is_through();
}
