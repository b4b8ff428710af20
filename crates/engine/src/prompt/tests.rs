//! Reading prompts with the tokenizer of a small model, whose window is 19 tokens.

use std::path::PathBuf;

use super::*;
use crate::DeviceSpec;
use crate::adapters::{Adapters, Embedding};
use crate::networks::Networks;
use crate::ops::Ops;
use crate::source::ModelSource;
use seedfarm_core::Numerics;

fn networks(words: &[(&str, &str)]) -> Networks {
    let parity = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity");
    let embedding = |(trigger, file): &(&str, &str)| Embedding {
        trigger: (*trigger).to_owned(),
        path: parity.join("adapters").join(file),
    };
    let adapters = Adapters { embeddings: words.iter().map(embedding).collect(), ..Adapters::default() };
    let ops = Ops::new(Numerics::Fast, DeviceSpec::Cpu.open(Numerics::Fast).unwrap());
    Networks::load(&ModelSource::open(&parity.join("models/tiny-sd1")).unwrap(), &adapters, ops).unwrap()
}

fn weighted(networks: &Networks, text: &str) -> Result<ReadPrompt> {
    read(&networks.texts, text, PromptSyntax::Weighted)
}

/// Places of each chunk that hold a learned vector.
fn learned(prompt: &ReadPrompt) -> Vec<Vec<usize>> {
    let places = |chunk: &Chunk| {
        let vectors = chunk.0.iter().enumerate().filter(|(_, slot)| slot.learned.is_some());
        vectors.map(|(place, _)| place).collect()
    };
    prompt.parts[0].iter().map(places).collect()
}

#[test]
fn a_prompt_of_megabytes_or_of_too_many_chunks_is_refused() {
    let networks = networks(&[]);
    let long = "a".repeat(3 << 20);
    for syntax in [PromptSyntax::Plain, PromptSyntax::Weighted] {
        let error = read(&networks.texts, &long, syntax).unwrap_err().to_string();
        assert!(error.contains("3145728 bytes"), "{error}");
    }
    let error = weighted(&networks, &"BREAK ".repeat(40)).unwrap_err().to_string();
    assert!(error.contains("more than 32 chunks"), "{error}");
    let brackets = "(".repeat(3 << 20);
    assert!(weighted(&networks, &brackets).unwrap_err().to_string().contains("3145728 bytes"));
}

#[test]
fn learned_words_are_found_whatever_their_capitals_and_the_longest_first() {
    let words = [
        ("cat", "embedding-word.safetensors"),
        ("cat face", "embedding-params.safetensors"),
        ("<toy>", "embedding-word.safetensors"),
    ];
    let networks = networks(&words);
    let places = |text: &str| learned(&weighted(&networks, text).unwrap());
    assert_eq!(places("CAT Face"), [vec![0, 1, 2]]);
    assert_eq!(places("Cat cat face (cat)"), [vec![0, 1, 2, 3, 4]]);
    assert_eq!(places("<TOY>,<toy>"), [vec![0, 2]]);
    // A piece is read on its own: brackets cut the name in two.
    assert_eq!(places("cat (face)")[0].first(), Some(&0));
    assert_eq!(places("cats"), [Vec::<usize>::new()]);
}

#[test]
fn a_break_inside_brackets_is_warned_of_and_one_outside_is_not() {
    let networks = networks(&[]);
    let warnings = |text: &str| weighted(&networks, text).unwrap().warnings("prompt");
    assert!(warnings("a (b BREAK c)")[0].contains("a BREAK inside brackets of the prompt"));
    assert!(warnings("a (b) BREAK c").is_empty());
    assert!(warnings("[a:b:0.5]")[0].contains("in the prompt they are read as words"));
}

#[test]
fn what_is_cut_off_a_plain_prompt_is_told_once() {
    let networks = networks(&[("mystyle", "embedding-params.safetensors")]);
    let text = "a photograph of an astronaut riding a horse on the moon, red apple, yellow background";
    let prompt = read(&networks.texts, text, PromptSyntax::Plain).unwrap();
    let warnings = prompt.warnings("negative prompt");
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("reads 17 tokens; of the negative prompt it did not read"),
        "{}",
        warnings[0]
    );
    let short = read(&networks.texts, "mystyle", PromptSyntax::Plain).unwrap();
    assert!(short.warnings("prompt").is_empty());
    assert_eq!(learned(&short), [vec![0, 1, 2]]);
}

#[test]
fn a_chunk_does_not_depend_on_those_after_it() {
    let networks = networks(&[]);
    let hidden = |text: &str, chunks: usize| {
        let prompt = weighted(&networks, text).unwrap();
        encode(&networks.texts, &prompt, chunks, 0).unwrap().hidden
    };
    let alone = hidden("a (red:1.3) apple", 1);
    let before_others = hidden("a (red:1.3) apple BREAK (dog:0.4)", 3).narrow(1, 0, 19).unwrap();
    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&alone), values(&before_others));
    assert_eq!(hidden("", 4).dims(), [1, 4 * 19, 30]);
}
