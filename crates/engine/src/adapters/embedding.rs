//! A textual inversion's file: the vectors that a word stands for.
//!
//! Three layouts are read: `emb_params`, one tensor for the one text encoder; `clip_l` and `clip_g`, one
//! for each of SDXL's; and what diffusers writes, one tensor under the word itself.

use std::path::Path;

use crate::weights::WeightsFile;
use crate::{Error, Result};

/// Most vectors of a word: what a window of CLIP has room for.
const MOST_VECTORS: usize = 75;
/// The name of the one tensor in the layout of A1111-style tools.
const ONE: &str = "emb_params";
/// Names of the tensors for SDXL's text encoders, in the two ways they are written.
const TWO: [[&str; 2]; 2] = [["clip_l", "clip_g"], ["text_encoders_0", "text_encoders_1"]];

/// An open file whose tensors are understood.
pub(super) struct EmbeddingFile {
    file: WeightsFile,
    /// The word that the file itself names.
    word: Option<String>,
    /// One tensor for each text encoder.
    keys: Vec<String>,
}

impl EmbeddingFile {
    /// Opens a file.
    ///
    /// Errors: a pickle; tensors that are none of an embedding's; shapes that are not vectors.
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightsFile::open(path)?;
        let names: Vec<&str> = file.names().take(3).collect();
        let two = TWO.iter().find(|two| two.iter().any(|key| names.contains(key)));
        let (word, keys): (Option<&str>, Vec<&str>) = match (two, names.as_slice()) {
            (Some(two), _) => (None, two.to_vec()),
            (None, [ONE]) => (None, vec![ONE]),
            (None, [word]) => (Some(word), vec![word]),
            _ => {
                let reason = format!(
                    "is no embedding: one tensor '{ONE}', one under the word itself, or 'clip_l' and 'clip_g' are needed"
                );
                return Err(Error::Malformed { path: path.to_owned(), reason });
            }
        };
        if let Some(extra) = names.iter().find(|name| !keys.contains(name)) {
            return Err(file.fault(extra, "is none of an embedding's tensors".to_owned()));
        }
        let (word, keys) = (word.map(str::to_owned), keys.into_iter().map(str::to_owned).collect());
        let embedding = Self { file, word, keys };
        embedding.check_vectors()?;
        Ok(embedding)
    }

    /// The word that the file itself names.
    pub fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }

    /// Width of the vectors for each text encoder.
    pub fn widths(&self) -> Vec<usize> {
        self.keys.iter().map(|key| self.shape(key).1).collect()
    }

    /// The vectors for each text encoder.
    pub fn vectors(&self) -> Result<Vec<Vec<Vec<f32>>>> {
        let read = |key: &String| {
            let stored = self.file.shape(key).unwrap_or_default().to_vec();
            let values = self.file.values(key, &stored)?;
            Ok(values.chunks_exact(self.shape(key).1).map(<[f32]>::to_vec).collect())
        };
        self.keys.iter().map(read).collect()
    }

    /// An error about the file as a whole.
    pub fn fault(&self, reason: String) -> Error {
        Error::Malformed { path: self.file.path().to_owned(), reason }
    }

    /// Vectors and width of a tensor.
    fn shape(&self, key: &str) -> (usize, usize) {
        match self.file.shape(key) {
            Some([count, width]) => (*count, *width),
            Some([width]) => (1, *width),
            _ => (0, 0),
        }
    }

    fn check_vectors(&self) -> Result<()> {
        let first = self.shape(&self.keys[0]).0;
        for key in &self.keys {
            let Some(stored) = self.file.shape(key) else {
                return Err(self.file.fault(key, "is missing: SDXL has two text encoders".to_owned()));
            };
            let (count, width) = self.shape(key);
            if !(1..=MOST_VECTORS).contains(&count) || width == 0 {
                let reason = format!(
                    "has shape {stored:?}: [vectors, width] with 1 to {MOST_VECTORS} vectors is needed"
                );
                return Err(self.file.fault(key, reason));
            }
            if count != first {
                let reason = format!("has {count} vectors, but '{}' has {first}", self.keys[0]);
                return Err(self.file.fault(key, reason));
            }
        }
        Ok(())
    }
}
