//! The vocabulary of CLIP, which checkpoints in one file take for granted; `data/README.md` says where it is
//! from.

use serde_json::{Map, Value};

/// The merges, most frequent first, one a line.
pub(crate) const CLIP_MERGES: &str = include_str!("../data/clip_merges.txt");
/// Tokens of a window that every CLIP text encoder was trained with.
pub(crate) const CLIP_WINDOW: usize = 77;
/// What marks a token at the end of a word.
const END_OF_WORD: &str = "</w>";

/// Tokens and their ids: all bytes, all bytes at the end of a word, the merges, and `special` last.
pub(crate) fn clip_vocabulary(special: [&str; 2]) -> Map<String, Value> {
    let bytes: Vec<String> = alphabet().map(String::from).collect();
    let ends = bytes.iter().map(|byte| format!("{byte}{END_OF_WORD}"));
    let merges = CLIP_MERGES.lines().map(|merge| merge.replace(' ', ""));
    let tokens = bytes.iter().cloned().chain(ends).chain(merges).chain(special.map(str::to_owned));
    tokens.enumerate().map(|(id, token)| (token, Value::from(id))).collect()
}

/// A printable character for each byte, in the order of GPT-2's alphabet: first the bytes that are one in
/// Latin-1 themselves, then the others as the characters from 256 on.
fn alphabet() -> impl Iterator<Item = char> {
    let own = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}');
    let others = 256 - own.clone().count() as u32;
    own.chain((0..others).filter_map(|index| char::from_u32(256 + index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_and_ids_are_those_of_clip() {
        assert_eq!(alphabet().count(), 256);
        let vocabulary = clip_vocabulary(["<|startoftext|>", "<|endoftext|>"]);
        assert_eq!(vocabulary.len(), 49_408);
        let known =
            [("!", 0), ("a</w>", 320), ("cat</w>", 2368), ("photo</w>", 1125), ("<|endoftext|>", 49_407)];
        for (token, id) in known {
            assert_eq!(vocabulary[token], id, "{token}");
        }
    }
}
