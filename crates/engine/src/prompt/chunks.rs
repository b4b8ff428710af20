//! Laying tokens out in chunks that fill one window of the text encoder each.
//!
//! Reference: how the AUTOMATIC1111 web interface cuts prompts of more than 75 tokens. Where a chunk is full
//! and a comma is among its last tokens, it ends behind that comma and what followed moves to the next. A
//! learned word moves with its vectors, where the reference loses them.

use std::sync::Arc;

use crate::clip::TokenRow;
use crate::tokenizer::PromptTokenizer;
use crate::{Error, Result};

/// Most chunks of a prompt.
pub(super) const MOST_CHUNKS: usize = 32;
/// How many tokens before a full chunk's end a comma may stand for the chunk to end there.
const BACKTRACK: usize = 20;

/// One place of a chunk.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub id: u32,
    pub weight: f32,
    /// The vector that stands for the token.
    pub learned: Option<Arc<Vec<f32>>>,
}

/// The tokens of one window, without begin, end and padding.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk(pub Vec<Slot>);

impl Chunk {
    /// The whole window: begin, the tokens, end, padding.
    pub fn row(&self, tokenizer: &PromptTokenizer) -> TokenRow {
        let vector =
            |(place, slot): (usize, &Slot)| slot.learned.as_ref().map(|vector| (place + 1, vector.to_vec()));
        TokenRow {
            ids: tokenizer.window_of(self.0.iter().map(|slot| slot.id)),
            learned: self.0.iter().enumerate().filter_map(vector).collect(),
        }
    }

    /// The weight of each place of the window.
    pub fn weights(&self, window: usize) -> Vec<f32> {
        let mut weights = vec![1.0; window];
        for (weight, slot) in weights.iter_mut().skip(1).zip(&self.0) {
            *weight = slot.weight;
        }
        weights
    }
}

/// Chunks while they are being filled.
pub(super) struct Layout {
    /// Tokens of a chunk.
    room: usize,
    comma: Option<u32>,
    done: Vec<Chunk>,
    open: Vec<Slot>,
    /// Where the last comma of the open chunk stands.
    last_comma: Option<usize>,
}

impl Layout {
    /// Chunks of `room` tokens; `comma` is the token that they would rather end with.
    pub fn new(room: usize, comma: Option<u32>) -> Self {
        Self { room, comma, done: Vec::new(), open: Vec::new(), last_comma: None }
    }

    /// Puts what stands for one word or token behind the others; `first` is the first token of its text.
    ///
    /// Errors: more chunks than a prompt may have; a word that fits no chunk.
    pub fn push(&mut self, first: u32, slots: Vec<Slot>) -> Result<()> {
        if slots.len() > self.room {
            return Err(Error::Recipe(format!(
                "a learned word of {} vectors does not fit a chunk of {} tokens",
                slots.len(),
                self.room
            )));
        }
        let full = self.open.len() == self.room;
        if Some(first) == self.comma {
            self.last_comma = Some(self.open.len());
        } else if let Some(comma) = self.last_comma.filter(|comma| full && self.room - comma <= BACKTRACK) {
            let moved = self.open.split_off(comma + 1);
            self.finish_chunk()?;
            self.open = moved;
        }
        if self.open.len() == self.room || self.open.len() + slots.len() > self.room {
            self.finish_chunk()?;
        }
        self.open.extend(slots);
        Ok(())
    }

    /// Ends the open chunk, which may be empty.
    pub fn finish_chunk(&mut self) -> Result<()> {
        if self.done.len() == MOST_CHUNKS {
            return Err(Error::Recipe(format!(
                "the prompt needs more than {MOST_CHUNKS} chunks of {} tokens",
                self.room
            )));
        }
        self.last_comma = None;
        self.done.push(Chunk(std::mem::take(&mut self.open)));
        Ok(())
    }

    /// The chunks; a prompt without tokens has one.
    pub fn finish(mut self) -> Result<Vec<Chunk>> {
        if !self.open.is_empty() || self.done.is_empty() {
            self.finish_chunk()?;
        }
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMA: u32 = 0;

    fn lay(room: usize, ids: impl IntoIterator<Item = u32>) -> Vec<Vec<u32>> {
        let mut layout = Layout::new(room, Some(COMMA));
        for id in ids {
            layout.push(id, vec![Slot { id, weight: 1.0, learned: None }]).unwrap();
        }
        let ids = |chunk: Chunk| chunk.0.iter().map(|slot| slot.id).collect();
        layout.finish().unwrap().into_iter().map(ids).collect()
    }

    #[test]
    fn a_full_chunk_ends_behind_a_comma_among_its_last_twenty_tokens() {
        assert_eq!(lay(4, [1, 0, 2, 3, 4, 5]), [vec![1, 0], vec![2, 3, 4, 5]]);
        assert_eq!(lay(4, [1, 2, 3, 4, 5]), [vec![1, 2, 3, 4], vec![5]]);
        let far: Vec<u32> = [COMMA].into_iter().chain(1..=21).collect();
        assert_eq!(lay(21, far.clone()), [far[..21].to_vec(), vec![21]]);
        let near: Vec<u32> = [1, COMMA].into_iter().chain(2..=21).collect();
        assert_eq!(lay(21, near.clone()), [near[..2].to_vec(), near[2..].to_vec()]);
    }

    #[test]
    fn a_comma_that_would_begin_a_chunk_begins_it() {
        assert_eq!(lay(3, [1, 2, 3, COMMA, 4]), [vec![1, 2, 3], vec![COMMA, 4]]);
    }

    #[test]
    fn a_learned_word_is_not_cut_in_two() {
        let mut layout = Layout::new(4, Some(COMMA));
        let slot = |id| Slot { id, weight: 1.0, learned: None };
        layout.push(1, vec![slot(1)]).unwrap();
        layout.push(2, vec![slot(2); 2]).unwrap();
        layout.push(3, vec![slot(3); 2]).unwrap();
        assert!(layout.push(4, vec![slot(4); 5]).unwrap_err().to_string().contains("5 vectors"));
        let lengths: Vec<usize> = layout.finish().unwrap().iter().map(|chunk| chunk.0.len()).collect();
        assert_eq!(lengths, [3, 2]);
    }

    #[test]
    fn a_prompt_has_at_most_thirty_two_chunks() {
        let mut layout = Layout::new(4, None);
        for _ in 0..MOST_CHUNKS {
            layout.finish_chunk().unwrap();
        }
        assert!(layout.finish_chunk().unwrap_err().to_string().contains("more than 32 chunks"));
    }
}
