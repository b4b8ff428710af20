//! The embeddings of the texts that were read last: most images of a job share theirs.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use seedfarm_core::PromptSyntax;

use crate::Result;
use crate::clip::Encoded;

/// Texts kept. One of Stable Diffusion 1.5 takes 236 kB.
const KEPT: usize = 64;

/// All that an embedding depends on but the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextKey {
    pub text: String,
    pub syntax: PromptSyntax,
    /// How many chunks it fills.
    pub chunks: usize,
    /// Layers left out at the end of the text encoders.
    pub skip: usize,
}

/// Embeddings by text, the one used last at the back.
#[derive(Default)]
pub(crate) struct Embeddings {
    kept: Mutex<VecDeque<(TextKey, Encoded)>>,
}

impl Embeddings {
    /// The embedding of a text, made by `encode` unless it is kept.
    pub fn of(&self, text: &TextKey, encode: impl FnOnce() -> Result<Encoded>) -> Result<Encoded> {
        if let Some(known) = self.take(text) {
            return Ok(self.keep(text, known));
        }
        Ok(self.keep(text, encode()?))
    }

    fn take(&self, text: &TextKey) -> Option<Encoded> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(known, _)| known == text)?;
        kept.remove(place).map(|(_, embedding)| embedding)
    }

    fn keep(&self, text: &TextKey, embedding: Encoded) -> Encoded {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((text.clone(), embedding.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        embedding
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn the_texts_used_last_are_encoded_once() {
        let embeddings = Embeddings::default();
        let encoded = |text: &str| {
            let mut made = false;
            let encode = || {
                made = true;
                Ok(Encoded { hidden: Tensor::new(&[1.0f32], &Device::Cpu)?, pooled: None })
            };
            let text = text.to_owned();
            let key = TextKey { text, syntax: PromptSyntax::Plain, chunks: 1, skip: 0 };
            embeddings.of(&key, encode).unwrap();
            made
        };
        let texts: Vec<String> = (0..=KEPT).map(|number| number.to_string()).collect();
        assert!(texts[..KEPT].iter().all(|text| encoded(text)));
        assert!(!encoded("0"));
        // One too many: "1" has waited longest.
        assert!(encoded(&texts[KEPT]));
        assert!(!encoded("0"));
        assert!(encoded("1"));
    }
}
