//! Names and configurations against diffusers' own converters, and the networks of small checkpoints against
//! diffusers; `tests/parity/single_file.py` wrote the references.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use seedfarm_core::Numerics;
use seedfarm_numerics::philox;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::family::{self, Kind};
use super::names::{self, Names};
use super::{Checkpoint, config};
use crate::DeviceSpec;
use crate::clip::{ClipTextEncoder, text_roles};
use crate::config::ConfigFile;
use crate::config::clip::ClipConfig;
use crate::config::unet::UnetConfig;
use crate::config::vae::VaeConfig;
use crate::ops::Ops;
use crate::source::{ModelSource, Part, TokenizerSource};
use crate::tokenizer::PromptTokenizer;
use crate::unet::{Conditions, Unet};
use crate::vae::{VaeDecoder, VaeEncoder};
use crate::weights::SafetensorsFile;

const KINDS: [(&str, Kind); 3] = [("sd1", Kind::V1), ("sd2", Kind::V2), ("sdxl", Kind::Xl)];
const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn parity() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

fn facts(kind: &str) -> Value {
    let bytes = std::fs::read(parity().join("golden/single_file.json")).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()[kind].take()
}

/// The header of a published checkpoint: each line of the list begins with the number of characters that it
/// shares with the line before.
fn published(kind: &str) -> SafetensorsFile {
    let list = std::fs::read_to_string(parity().join(format!("golden/single_file_{kind}.txt"))).unwrap();
    let mut line = String::new();
    let tensors = list.lines().map(|coded| {
        let (shared, rest) = coded.split_once(' ').unwrap();
        line.truncate(shared.parse().unwrap());
        line.push_str(rest);
        let (key, shape) = line.split_once(' ').unwrap();
        let dims = shape.split('x').map(|dim| dim.parse().unwrap());
        (key.to_owned(), dims.collect())
    });
    SafetensorsFile::of_shapes(tensors)
}

fn parts(kind: Kind) -> &'static [Part] {
    kind.family().weighted_parts()
}

#[test]
fn every_tensor_of_the_published_checkpoints_gets_the_name_that_diffusers_gives_it() {
    for (name, kind) in KINDS {
        let file = published(name);
        assert_eq!(family::tell(&file).unwrap(), kind);
        let names = Names::of(&file, kind).unwrap();
        let mut lines = Vec::new();
        for key in file.keys() {
            assert!(!names::is_leftover(key), "{key}");
            let part = names.part(key).unwrap();
            let stored = names.stored(&file, key, usize::MAX).unwrap_or_else(|| panic!("{key}"));
            let first = stored[0].1.origin().1.0;
            for (name, stored) in &stored {
                let shape = stored.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
                let (key, (start, end)) = stored.origin();
                let piece = if stored_in_thirds(key) {
                    format!("/{}", (start - first) / (end - start))
                } else {
                    String::new()
                };
                lines.push(format!("{} {name} {shape} {key}{piece}\n", part.name()));
            }
        }
        lines.sort_unstable();
        let digest = format!("{:x}", hex(Sha256::digest(lines.concat())));
        assert_eq!(digest, facts(name)["names"], "{name}:\n{}", lines.concat());
    }
}

fn stored_in_thirds(key: &str) -> bool {
    key.contains(".in_proj_")
}

/// Prints bytes in hexadecimal.
struct Hex(Vec<u8>);

fn hex(bytes: impl AsRef<[u8]>) -> Hex {
    Hex(bytes.as_ref().to_vec())
}

impl std::fmt::LowerHex for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[test]
fn the_published_configurations_follow_from_shapes() {
    for (name, kind) in KINDS {
        let file = published(name);
        for part in parts(kind) {
            let ours = config::of(&file, kind, *part).unwrap();
            for (key, theirs) in facts(name)["configs"][part.name()].as_object().unwrap() {
                // Whether a weight is stored as a matrix or as a kernel of 1 is seen when it is read.
                if key != "use_linear_projection" {
                    assert_eq!(ours.get(key), Some(theirs), "{name} {} {key}", part.name());
                }
            }
        }
    }
}

#[test]
fn what_a_network_predicts_is_told_as_diffusers_tells_it() {
    let prediction = |kind: Kind, name: &str, mark: Option<(&str, Vec<usize>)>| {
        let file = published(name);
        let keep = |key: &&str| mark.as_ref().is_none_or(|(mark, _)| mark != key);
        let mut tensors: Vec<_> =
            file.keys().filter(keep).map(|key| (key.to_owned(), file.shape(key).unwrap().to_vec())).collect();
        tensors.extend(mark.iter().map(|(key, shape)| ((*key).to_owned(), shape.clone())));
        let values = config::of(&SafetensorsFile::of_shapes(tensors), kind, Part::Scheduler).unwrap();
        values["prediction_type"].as_str().unwrap().to_owned()
    };
    assert_eq!(prediction(Kind::V1, "sd1", None), "epsilon");
    assert_eq!(prediction(Kind::V2, "sd2", None), "v_prediction");
    assert_eq!(prediction(Kind::Xl, "sdxl", None), "epsilon");
    assert_eq!(prediction(Kind::Xl, "sdxl", Some(("v_pred", vec![0]))), "v_prediction");
    let inpainting = ("model.diffusion_model.input_blocks.0.0.weight", vec![320, 9, 3, 3]);
    assert_eq!(prediction(Kind::V2, "sd2", Some(inpainting)), "epsilon");
}

fn source(kind: &str) -> ModelSource {
    ModelSource::open(&parity().join(format!("models/single-{kind}.safetensors"))).unwrap()
}

#[test]
fn the_numbers_under_each_name_are_those_of_diffusers_bit_for_bit() {
    for (name, kind) in KINDS {
        for part in parts(kind) {
            let weights = source(name).weights(*part).unwrap();
            let mut digest = Sha256::new();
            for key in weights.names() {
                digest.update(key.as_bytes());
                digest.update(b"\n");
                let shape = weights.shape(key).unwrap().to_vec();
                let values = weights.values(key, &shape).unwrap();
                digest.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
            }
            let digest = format!("{:x}", hex(digest.finalize()));
            assert_eq!(digest, facts(name)["weights"][part.name()], "{name} {}", part.name());
        }
    }
}

#[test]
fn the_built_in_tokenizer_gives_the_ids_of_transformers() {
    let facts = facts("tokens");
    for case in facts.as_array().unwrap() {
        let padding = if case["padding"] == "!" { "!" } else { "<|endoftext|>" };
        let clip = ConfigFile::of(Path::new("clip"), Map::new());
        let clip = ClipConfig::read(&clip).unwrap();
        let tokenizer = PromptTokenizer::load(&TokenizerSource::BuiltIn { padding }, &clip).unwrap();
        let ours = tokenizer.tokenize(case["prompt"].as_str().unwrap()).unwrap();
        assert_eq!(json!(ours.ids), case["ids"], "{}", case["prompt"]);
    }
}

fn noise(draw: u32, shape: &[usize]) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    philox::standard_normal(7, draw, &mut values);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The largest difference over the largest value.
fn relative_error(ours: &Tensor, theirs: &Tensor) -> f32 {
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (flat(ours), flat(theirs));
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// The references, and which of them were compared.
struct Golden {
    kind: &'static str,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn of(kind: &'static str) -> Self {
        let path = parity().join("golden/single_file.safetensors");
        Self { kind, tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[&format!("{}/{name}", self.kind)]
    }

    #[track_caller]
    fn check(&self, name: &str, ours: &Tensor) {
        let error = relative_error(ours, self.get(name));
        assert!(error < LARGEST_RELATIVE_ERROR, "{} {name}: {error}", self.kind);
    }
}

#[test]
fn the_networks_of_a_checkpoint_compute_what_diffusers_computes() {
    for ((kind, _), numerics) in KINDS.iter().flat_map(|kind| Numerics::ALL.map(|numerics| (kind, numerics)))
    {
        let ops = Ops::new(numerics, DeviceSpec::Cpu.open(numerics).unwrap());
        let (source, golden) = (source(kind), Golden::of(kind));
        check_texts(&source, &ops, &golden);
        check_unet(&source, &ops, &golden);
        let vae = VaeConfig::read(&source.config(Part::Vae).unwrap()).unwrap();
        let decoder = VaeDecoder::load(&source.weights(Part::Vae).unwrap(), &ops, vae.clone()).unwrap();
        let encoder = VaeEncoder::load(&source.weights(Part::Vae).unwrap(), &ops, vae).unwrap();
        golden.check("decoded", &decoder.decode(&noise(0, &[1, 4, 9, 7])).unwrap());
        let picture = golden.get("decoded").clamp(-1.0, 1.0).unwrap();
        let moments = encoder.encode(&picture).unwrap();
        let moments = [moments.mean, moments.log_variance].concat();
        golden.check("encoded", &Tensor::new(moments, &Device::Cpu).unwrap());
    }
}

fn check_texts(source: &ModelSource, ops: &Ops, golden: &Golden) {
    for role in text_roles(source.family()) {
        let config = ClipConfig::read(&source.config(role.encoder).unwrap()).unwrap();
        let weights = source.weights(role.encoder).unwrap();
        let encoder = ClipTextEncoder::load(&weights, ops, config, *role).unwrap();
        let encoded = encoder.forward(&vec![49, 3, 7, 1, 20, 48, 48, 48, 48].into(), 0).unwrap();
        let part = role.encoder.name();
        let state =
            if source.family() == crate::source::Family::StableDiffusionXl { "penultimate" } else { "last" };
        golden.check(&format!("{part}/{state}"), &encoded.hidden);
        if let Some(pooled) = encoded.pooled {
            golden.check(&format!("{part}/pooled"), &pooled);
        }
    }
}

fn check_unet(source: &ModelSource, ops: &Ops, golden: &Golden) {
    let config = UnetConfig::read(&source.config(Part::Unet).unwrap()).unwrap();
    let width = config.trunk.text_width;
    let unet = Unet::load(&source.weights(Part::Unet).unwrap(), ops, config).unwrap();
    let keys = unet.text_keys(&noise(1, &[1, 9, width])).unwrap();
    let time_ids = [64.0, 48.0, 0.0, 8.0, 56.0, 72.0];
    let conditions = Conditions { pooled: Some(noise(2, &[1, 16])), time_ids, guidance: 1.0 };
    let added = unet.added(&[conditions]).unwrap();
    let ours = unet.forward(&noise(0, &[1, 4, 9, 7]), &[481.0], &keys, added.as_ref(), None).unwrap();
    golden.check("unet", &ours);
}

#[test]
fn the_block_that_version_2_does_not_use_and_leftovers_of_training_are_left_out() {
    let source = source("sd2");
    let weights = source.weights(Part::TextEncoder).unwrap();
    assert!(
        weights.has_prefix("text_model.encoder.layers.1.")
            && !weights.has_prefix("text_model.encoder.layers.2.")
    );
    assert!(!weights.has_prefix("text_projection"));
}

#[test]
fn what_shapes_do_not_tell_must_be_told_beside_the_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::copy(parity().join("models/single-sdxl.safetensors"), &path).unwrap();
    let refusal = |text: &str, part: Part| {
        std::fs::write(folder.path().join("model.toml"), text).unwrap();
        let error = Checkpoint::open(&path).and_then(|checkpoint| checkpoint.config(part)).err();
        error.map_or_else(String::new, |error| error.to_string())
    };
    let error = refusal("", Part::Unet);
    for piece in ["attention_head_dim", "[config.unet]", "model.toml", "is not told"] {
        assert!(error.contains(piece), "{error}");
    }
    assert_eq!(refusal("[config.unet]\nattention_head_dim = 1\n", Part::Unet), "");
    let error = refusal("[config.unet]\nattention_heads = 1\n", Part::Unet);
    assert!(error.contains("config.unet.attention_heads") && error.contains("attention_head_dim"), "{error}");
    let error = refusal("[config.decoder]\na = 1\n", Part::Unet);
    assert!(error.contains("config.decoder") && error.contains("text_encoder_2"), "{error}");
    let error = refusal("[config.unet]\nattention_head_dim = nan\n", Part::Unet);
    assert!(error.contains("attention_head_dim"), "{error}");
}
