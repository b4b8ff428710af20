//! From a prompt's text to what the UNet is shown: the syntaxes, chunks, learned words and weights.
//!
//! [`read`] turns a text into chunks of tokens, one row of the text encoder each, and tells how many there
//! are; [`encode`] encodes them. A prompt and its negative prompt must have as many chunks as one another:
//! the shorter one is filled up with empty chunks.
//!
//! This module knows tokens and hidden states, not recipes or images.

mod chunks;
mod emphasis;
mod learned;
#[cfg(test)]
mod parity_tests;
mod reader;
mod syntax;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use seedfarm_core::PromptSyntax;

use self::chunks::Chunk;
pub(crate) use self::learned::LearnedWords;
use self::reader::Reader;
use crate::clip::{ClipTextEncoder, Encoded};
use crate::tokenizer::{PromptTokenizer, check_length};
use crate::{Error, Result};

/// A text encoder with its tokenizer and the words that were added to it.
pub(crate) struct TextPart {
    pub tokenizer: PromptTokenizer,
    pub learned: LearnedWords,
    pub encoder: ClipTextEncoder,
}

/// A prompt as the text encoders will read it.
#[derive(Debug)]
pub(crate) struct ReadPrompt {
    /// The chunks of each text encoder; all have as many.
    parts: Vec<Vec<Chunk>>,
    /// What of the prompt is not read as its writer may expect.
    warnings: Vec<Warning>,
}

/// A remark about a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Warning {
    /// The end of a plain prompt did not fit the window.
    CutOff { kept: usize, excerpt: String },
    /// A `BREAK` inside brackets is only a word.
    BracketedBreak,
    /// What changes prompts between steps elsewhere, or joins them, is only words.
    Edits,
}

/// Refuses text encoders whose windows cannot stand side by side.
pub(crate) fn check_windows(parts: &[TextPart]) -> Result<()> {
    let Some((first, rest)) = parts.split_first() else { return Ok(()) };
    let window = first.tokenizer.window();
    let Some(other) = rest.iter().find(|part| part.tokenizer.window() != window) else { return Ok(()) };
    let given = other.tokenizer.window();
    let reason = format!("reads windows of {given} tokens, but the first text encoder's reads {window}");
    Err(Error::Malformed { path: other.tokenizer.path().to_owned(), reason })
}

/// Reads a text into chunks for each text encoder.
///
/// Errors: a weight out of range, too many chunks, a text that is too long.
pub(crate) fn read(parts: &[TextPart], text: &str, syntax: PromptSyntax) -> Result<ReadPrompt> {
    check_length(text)?;
    let mut prompt = ReadPrompt { parts: Vec::with_capacity(parts.len()), warnings: Vec::new() };
    let parsed = match syntax {
        PromptSyntax::Plain => None,
        PromptSyntax::Weighted => Some(syntax::parse(text)?),
    };
    for part in parts {
        prompt.parts.push(match &parsed {
            None => vec![part.reader().plain(text, &mut prompt.warnings)?],
            Some(parsed) => part.reader().weighted(&parsed.pieces)?,
        });
    }
    prompt.warnings.dedup();
    if let Some(parsed) = parsed {
        prompt.warnings.extend(parsed.bracketed_break.then_some(Warning::BracketedBreak));
        prompt.warnings.extend(parsed.edits.then_some(Warning::Edits));
    }
    let chunks = prompt.parts.iter().map(Vec::len).max().unwrap_or(0);
    prompt.parts.iter_mut().for_each(|part| part.resize_with(chunks, Chunk::default));
    Ok(prompt)
}

/// Encodes a prompt that [`read`] read with the same text encoders, whose widths stand side by side: the
/// hidden states of its chunks behind one another, and the pooled text of the first. It has `chunks` chunks,
/// the last of them empty where the prompt has fewer, and as many as the prompt has where those are more.
/// `skip` layers are left out at the end of each encoder.
///
/// Errors: weights that cancel one another out; a `skip` of more layers than there are.
pub(crate) fn encode(parts: &[TextPart], prompt: &ReadPrompt, chunks: usize, skip: usize) -> Result<Encoded> {
    let empty = Chunk::default();
    let row = |index: usize| {
        let chunk =
            |(part, chunks): (&TextPart, &Vec<Chunk>)| part.encode(chunks.get(index).unwrap_or(&empty), skip);
        Encoded::join(parts.iter().zip(&prompt.parts).map(chunk).collect::<Result<_>>()?)
    };
    let mut first = row(0)?;
    let rest =
        (1..chunks.max(prompt.chunks())).map(|index| Ok(row(index)?.hidden)).collect::<Result<Vec<_>>>()?;
    if !rest.is_empty() {
        let rows: Vec<&Tensor> = std::iter::once(&first.hidden).chain(&rest).collect();
        first.hidden = Tensor::cat(&rows, 1)?;
    }
    Ok(first)
}

impl ReadPrompt {
    /// The number of chunks, at least one.
    pub fn chunks(&self) -> usize {
        self.parts.first().map_or(1, Vec::len)
    }

    /// What of the prompt is not read as its writer may expect; `name` says which prompt it is.
    pub fn warnings(&self, name: &str) -> Vec<String> {
        self.warnings.iter().map(|warning| warning.text(name)).collect()
    }
}

impl Warning {
    fn text(&self, name: &str) -> String {
        match self {
            Self::CutOff { kept, excerpt } => {
                format!("the model reads {kept} tokens; of the {name} it did not read '{excerpt}'")
            }
            Self::BracketedBreak => {
                format!("a BREAK inside brackets of the {name} is read as a word: write it outside of them")
            }
            Self::Edits => format!(
                "[from:to:step], [a|b] and AND change or join prompts in other programs: in the {name} they are read as words"
            ),
        }
    }
}

impl TextPart {
    /// What reads a text for this encoder.
    fn reader(&self) -> Reader<'_> {
        Reader { tokenizer: &self.tokenizer, learned: &self.learned }
    }

    fn encode(&self, chunk: &Chunk, skip: usize) -> Result<Encoded> {
        let encoded = self.encoder.forward(&chunk.row(&self.tokenizer), skip)?;
        let weights = chunk.weights(self.tokenizer.window());
        if weights.iter().all(|weight| *weight == 1.0) {
            return Ok(encoded);
        }
        let mut values = encoded.hidden.flatten_all()?.to_vec1::<f32>()?;
        emphasis::apply(&mut values, &weights)?;
        let hidden = Tensor::from_vec(values, encoded.hidden.shape(), encoded.hidden.device())?;
        Ok(Encoded { hidden, ..encoded })
    }
}
