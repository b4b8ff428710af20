//! Words that a textual inversion taught: where they stand in a prompt, and their vectors.
//!
//! A word is found by the tokens of its name, as the AUTOMATIC1111 web interface does, so that capitals do
//! not matter and the longest of several wins. A name that begins or ends with a mark, such as `<cat-toy>`,
//! is set off from what stands beside it first: the tokenizer would join `>,` to one token.

use std::borrow::Cow;
use std::sync::Arc;

use crate::tokenizer::PromptTokenizer;
use crate::{Error, Result};

/// Longest name of a learned word, in bytes.
const MOST_NAME_BYTES: usize = 200;

/// One word: the tokens of its name, and what they stand for.
#[derive(Debug)]
pub(crate) struct LearnedWord {
    name: String,
    ids: Vec<u32>,
    vectors: Vec<Arc<Vec<f32>>>,
}

impl LearnedWord {
    /// The vectors that stand for the word.
    pub(super) fn vectors(&self) -> &[Arc<Vec<f32>>] {
        &self.vectors
    }

    /// The number of tokens of its name.
    pub(super) fn tokens(&self) -> usize {
        self.ids.len()
    }
}

/// The learned words of one text encoder.
#[derive(Debug, Default)]
pub(crate) struct LearnedWords {
    /// The longest first.
    words: Vec<LearnedWord>,
}

impl LearnedWords {
    /// Words by their names, for the texts of one tokenizer.
    ///
    /// Errors: a name without any token, and two names that the tokenizer reads alike.
    pub fn new(tokenizer: &PromptTokenizer, words: Vec<(String, Vec<Vec<f32>>)>) -> Result<Self> {
        let mut known: Vec<LearnedWord> = Vec::with_capacity(words.len());
        for (name, vectors) in words {
            check_name(&name)?;
            let ids: Vec<u32> = tokenizer.encode(&name)?.iter().map(|token| token.id).collect();
            if ids.is_empty() {
                return Err(Error::Recipe(format!(
                    "the tokenizer reads nothing in the embedding's name '{name}'"
                )));
            }
            if let Some(other) = known.iter().find(|word| word.ids == ids) {
                let other = &other.name;
                return Err(Error::Recipe(format!(
                    "the embeddings '{other}' and '{name}' have one name to the tokenizer: rename one"
                )));
            }
            known.push(LearnedWord { name, ids, vectors: vectors.into_iter().map(Arc::new).collect() });
        }
        known.sort_by_key(|word| std::cmp::Reverse(word.ids.len()));
        Ok(Self { words: known })
    }

    /// The longest word that some tokens begin with.
    pub(super) fn first_of(&self, ids: &[u32]) -> Option<&LearnedWord> {
        self.words.iter().find(|word| ids.starts_with(&word.ids))
    }

    /// The text with spaces around each name that begins or ends with a mark.
    pub(super) fn set_off<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut marked: Vec<&str> =
            self.words.iter().map(|word| word.name.as_str()).filter(|name| has_marked_edge(name)).collect();
        if marked.is_empty() {
            return Cow::Borrowed(text);
        }
        marked.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            match marked.iter().find(|name| begins_with(rest, name)) {
                Some(name) => {
                    out.extend([" ", &rest[..name.len()], " "]);
                    rest = &rest[name.len()..];
                }
                None => {
                    out.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        Cow::Owned(out)
    }
}

fn check_name(name: &str) -> Result<()> {
    let reason = if name.trim() != name || name.is_empty() {
        "must not be empty or have spaces around it"
    } else if name.len() > MOST_NAME_BYTES {
        "is too long: at most 200 bytes"
    } else if name.chars().any(char::is_control) {
        "must not hold control characters"
    } else {
        return Ok(());
    };
    let excerpt = super::syntax::excerpt(name);
    Err(Error::Recipe(format!("the embedding's name '{excerpt}' {reason}")))
}

fn has_marked_edge(name: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !plain(name.chars().next()) || !plain(name.chars().next_back())
}

fn begins_with(text: &str, name: &str) -> bool {
    text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(names: &[&str]) -> LearnedWords {
        let word = |(index, name): (usize, &&str)| LearnedWord {
            name: (*name).to_owned(),
            ids: vec![index as u32; index + 1],
            vectors: Vec::new(),
        };
        LearnedWords { words: names.iter().enumerate().map(word).collect() }
    }

    #[test]
    fn names_with_marks_at_their_edges_are_set_off() {
        let words = words(&["<cat>", "<cat>x>", "toy"]);
        assert_eq!(words.set_off("a <Cat>, é<cat>x>toy"), "a  <Cat> , é <cat>x> toy");
        assert_eq!(words.set_off("toy"), "toy");
    }

    #[test]
    fn names_that_cannot_be_found_are_refused() {
        for name in ["", " a", "a\nb", &"x".repeat(201)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("<my style>").is_ok());
    }
}
