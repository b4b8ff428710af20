//! Reading a text with one tokenizer: its tokens and learned words, laid out in chunks.

use std::sync::Arc;

use super::Warning;
use super::chunks::{Chunk, Layout, Slot};
use super::learned::LearnedWords;
use super::syntax::Piece;
use crate::Result;
use crate::tokenizer::PromptTokenizer;

/// Longest excerpt of a cut-off text that a warning quotes, in characters.
const EXCERPT_CHARS: usize = 80;

/// A tokenizer and the words that were added to it.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub tokenizer: &'a PromptTokenizer,
    pub learned: &'a LearnedWords,
}

impl Reader<'_> {
    /// One window of the text as it stands; what does not fit is cut off and told.
    pub fn plain(&self, text: &str, warnings: &mut Vec<Warning>) -> Result<Chunk> {
        let room = self.tokenizer.window() - 2;
        let text = self.learned.set_off(text);
        let tokens = self.tokenizer.encode(&text)?;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let (mut slots, mut starts, mut place) = (Vec::new(), Vec::new(), 0);
        while place < ids.len() {
            let (new, read) = self.slots_at(&ids[place..], 1.0);
            starts.resize(starts.len() + new.len(), tokens[place].start);
            slots.extend(new);
            place += read;
        }
        if let Some(cut_at) = starts.get(room) {
            let excerpt = text.get(*cut_at..).unwrap_or_default().chars().take(EXCERPT_CHARS).collect();
            warnings.push(Warning::CutOff { kept: room, excerpt });
        }
        slots.truncate(room);
        Ok(Chunk(slots))
    }

    /// As many chunks as the pieces of a text need.
    pub fn weighted(&self, pieces: &[Piece]) -> Result<Vec<Chunk>> {
        let mut layout = Layout::new(self.tokenizer.window() - 2, self.tokenizer.comma());
        for piece in pieces {
            match piece {
                Piece::Break => layout.finish_chunk()?,
                Piece::Text { text, weight } => {
                    let tokens = self.tokenizer.encode(&self.learned.set_off(text))?;
                    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
                    let mut place = 0;
                    while place < ids.len() {
                        let (slots, read) = self.slots_at(&ids[place..], *weight as f32);
                        layout.push(ids[place], slots)?;
                        place += read;
                    }
                }
            }
        }
        layout.finish()
    }

    /// What stands for the first of some tokens, and how many tokens that was.
    fn slots_at(&self, ids: &[u32], weight: f32) -> (Vec<Slot>, usize) {
        match self.learned.first_of(ids) {
            Some(word) => {
                // Any token will do under a learned vector, but the one that ends a text.
                let id = self.tokenizer.begin();
                let slot = |vector: &_| Slot { id, weight, learned: Some(Arc::clone(vector)) };
                (word.vectors().iter().map(slot).collect(), word.tokens())
            }
            None => (vec![Slot { id: ids[0], weight, learned: None }], 1),
        }
    }
}
