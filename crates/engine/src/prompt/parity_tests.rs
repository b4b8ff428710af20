//! Prompts against the programs whose syntax and words they are; `tests/parity/prompts.py` wrote the references.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use seedfarm_core::{ArtifactDigest, Numerics, PromptSyntax};
use serde_json::{Map, Value};

use super::reader::Reader;
use super::syntax::{self, Piece};
use super::{LearnedWords, encode, read};
use crate::adapters::{Adapters, Embedding};
use crate::clip::Encoded;
use crate::config::ConfigFile;
use crate::config::clip::ClipConfig;
use crate::networks::Networks;
use crate::ops::Ops;
use crate::source::{ModelSource, TokenizerSource};
use crate::tokenizer::PromptTokenizer;
use crate::{DeviceSpec, Result};

const LARGEST_RELATIVE_ERROR: f32 = 1e-4;

fn parity() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity")
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(parity().join("golden").join(name)).unwrap()).unwrap()
}

fn tensors() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(parity().join("golden/prompts.safetensors"), &Device::Cpu).unwrap()
}

fn networks(folder: &Path, words: &Value, numerics: Numerics) -> Result<Networks> {
    let embedding = |(word, file): (&String, &Value)| Embedding {
        trigger: word.clone(),
        path: parity().join("adapters").join(format!("{}.safetensors", file.as_str().unwrap())),
    };
    let embeddings = words.as_object().into_iter().flatten().map(embedding).collect();
    let adapters = Adapters { embeddings, ..Adapters::default() };
    let ops = Ops::new(numerics, DeviceSpec::Cpu.open(numerics).unwrap());
    Networks::load(&ModelSource::open(folder).unwrap(), &adapters, ops)
}

fn relative_error(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!(ours.dims(), theirs.dims());
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (flat(ours), flat(theirs));
    let largest = theirs.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    ours.iter().zip(&theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// The table of the reference, which makes pieces of a `BREAK` and of nothing.
#[test]
fn brackets_are_read_as_the_reference_reads_them() {
    for case in json("prompt_parses.json").as_array().unwrap() {
        let prompt = case[0].as_str().unwrap();
        let theirs: Vec<(String, f64)> = case[1]
            .as_array()
            .unwrap()
            .iter()
            .map(|piece| (piece[0].as_str().unwrap().to_owned(), piece[1].as_f64().unwrap()))
            .collect();
        let ours: Vec<(String, f64)> = syntax::parse(prompt)
            .unwrap()
            .pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Break => ("BREAK".to_owned(), -1.0),
                Piece::Text { text, weight } => (text, weight),
            })
            .collect();
        assert_eq!(ours, theirs, "{prompt}");
    }
}

#[test]
fn prompts_become_what_the_references_make_of_them() {
    let (golden, mut loaded) = (tensors(), HashMap::new());
    for case in json("prompts.json")["cases"].as_array().unwrap() {
        for numerics in Numerics::ALL {
            let key = (case["model"].as_str().unwrap(), case["words"].to_string(), numerics.as_str());
            let folder = parity().join("models").join(key.0);
            let networks =
                loaded.entry(key).or_insert_with(|| networks(&folder, &case["words"], numerics).unwrap());
            check_case(networks, case, &golden);
        }
    }
}

fn check_case(networks: &Networks, case: &Value, golden: &HashMap<String, Tensor>) {
    let (name, prompt) = (case["name"].as_str().unwrap(), case["prompt"].as_str().unwrap());
    let syntax = match case["syntax"].as_str().unwrap() {
        "plain" => PromptSyntax::Plain,
        _ => PromptSyntax::Weighted,
    };
    let (chunks, skip) = (case["rows"].as_array().unwrap().len(), case["skip"].as_u64().unwrap() as usize);
    let prompt = read(&networks.texts, prompt, syntax).unwrap();
    assert!(prompt.chunks() <= chunks, "{case}");
    let Encoded { hidden, pooled } = encode(&networks.texts, &prompt, chunks, skip).unwrap();
    let error = relative_error(&hidden, &golden[&format!("{name}/sequence")]);
    assert!(error < LARGEST_RELATIVE_ERROR, "{case}: {error}");
    assert_eq!(pooled.is_some(), golden.contains_key(&format!("{name}/pooled")));
    if let Some(pooled) = pooled {
        let error = relative_error(&pooled, &golden[&format!("{name}/pooled")]);
        assert!(error < LARGEST_RELATIVE_ERROR, "{case}: {error} (pooled)");
    }
}

/// `tests/parity/strict_adapters.py` computed the digests from the specification.
#[test]
fn weighted_prompts_have_the_bits_that_the_specification_gives() {
    let strict = json("strict_adapters.json");
    let digests = strict["prompts"].as_object().unwrap();
    let cases = json("prompts.json");
    let of_name = |name: &str| cases["cases"].as_array().unwrap().iter().find(|case| case["name"] == name);
    for (name, digest) in digests {
        let case = of_name(name).unwrap();
        let folder = parity().join("models").join(case["model"].as_str().unwrap());
        let networks = networks(&folder, &case["words"], Numerics::Strict).unwrap();
        let prompt = read(&networks.texts, case["prompt"].as_str().unwrap(), PromptSyntax::Weighted).unwrap();
        let chunks = case["rows"].as_array().unwrap().len();
        let hidden = encode(&networks.texts, &prompt, chunks, 0).unwrap().hidden;
        let values = hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(ArtifactDigest::of_bytes(&bytes).to_string(), digest.as_str().unwrap(), "{case}");
    }
    assert!(digests.len() > 10);
}

#[test]
fn a_tokenizer_with_a_smaller_window_than_its_encoder_sets_the_window() {
    let folder = tempfile::tempdir().unwrap();
    copy(&parity().join("models/tiny-sd1"), folder.path());
    set_window(&folder.path().join("tokenizer"), 11);
    let networks = networks(folder.path(), &Value::Null, Numerics::Strict).unwrap();
    let prompt = json("prompts.json")["short_window_prompt"].as_str().unwrap().to_owned();
    let prompt = read(&networks.texts, &prompt, PromptSyntax::Plain).unwrap();
    let encoded = encode(&networks.texts, &prompt, 1, 0).unwrap();
    assert!(relative_error(&encoded.hidden, &tensors()["short-window"]) < LARGEST_RELATIVE_ERROR);
}

#[test]
fn windows_that_cannot_stand_side_by_side_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    copy(&parity().join("models/tiny-sdxl"), folder.path());
    set_window(&folder.path().join("tokenizer_2"), 11);
    let error = networks(folder.path(), &Value::Null, Numerics::Fast).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer_2: reads windows of 11 tokens, but the first text encoder's reads 15"),
        "{error}"
    );
}

fn set_window(tokenizer: &Path, window: u64) {
    let path = tokenizer.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["model_max_length"] = window.into();
    std::fs::write(&path, config.to_string()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The reference's own `tokenize_line` gave these, with CLIP's vocabulary and chunks of 75.
#[test]
fn long_prompts_are_cut_where_the_reference_cuts_them() {
    let clip = ClipConfig::read(&ConfigFile::of(Path::new("config.json"), Map::new())).unwrap();
    let source = TokenizerSource::BuiltIn { padding: "<|endoftext|>" };
    let tokenizer = PromptTokenizer::load(&source, &clip).unwrap();
    let reader = Reader { tokenizer: &tokenizer, learned: &LearnedWords::default() };
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    for case in json("prompt_chunks.json").as_array().unwrap() {
        let prompt = case[0].as_str().unwrap();
        let ours = reader.weighted(&syntax::parse(prompt).unwrap().pieces).unwrap();
        let theirs = case[1].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{prompt}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let ids: Vec<f64> = ours.row(&tokenizer).ids.into_iter().map(f64::from).collect();
            assert_eq!(ids, numbers(&theirs[0]), "{prompt}");
            let weights: Vec<f32> = numbers(&theirs[1]).into_iter().map(|weight| weight as f32).collect();
            assert_eq!(ours.weights(77), weights, "{prompt}");
        }
    }
}
