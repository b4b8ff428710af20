//! What an adapter's file is, from its header alone.

use std::path::{Path, PathBuf};

use seedfarm_core::ArtifactDigest;

use super::embedding::EmbeddingFile;
use super::family::AdapterFamily;
use super::keys;
use super::lora::LoraFile;
use crate::manifest::sha256_of_file;
use crate::weights::WeightsFile;
use crate::{Error, Result};

/// What an adapter's file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterFile {
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub kind: AdapterFileKind,
    /// The family of models it was made for, where its widths tell.
    pub family: Option<AdapterFamily>,
    /// SHA-256 of its bytes.
    pub digest: ArtifactDigest,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What an adapter's file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterFileKind {
    /// A LoRA.
    Lora,
    /// A textual inversion, with the word that stands for it: the one that the file names, or the file's name.
    Embedding {
        /// The word.
        trigger: String,
    },
    /// Tensors of something else.
    Other,
}

/// Says what a file is, reading its header and digesting its bytes.
///
/// Errors: a file that is no safetensors file, a pickle among them; a LoRA or embedding that cannot be used,
/// with the tensor and the reason.
pub fn describe_adapter(path: &Path) -> Result<AdapterFile> {
    refuse_pickle(path)?;
    let names: Vec<String> = WeightsFile::open(path)?.names().map(str::to_owned).collect();
    let (kind, family) = if names.iter().any(|name| keys::is_loras(name)) {
        (AdapterFileKind::Lora, lora_family(&LoraFile::open(path)?))
    } else if let Ok(embedding) = EmbeddingFile::open(path) {
        let trigger = embedding.word().map_or_else(|| stem(path), str::to_owned);
        (AdapterFileKind::Embedding { trigger }, AdapterFamily::of_encoder_widths(&embedding.widths()))
    } else {
        (AdapterFileKind::Other, None)
    };
    let bytes = std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_owned(), source })?.len();
    Ok(AdapterFile { path: path.to_owned(), kind, family, digest: sha256_of_file(path)?, bytes })
}

fn lora_family(lora: &LoraFile) -> Option<AdapterFamily> {
    if lora.encoder_width(1).is_some() {
        return Some(AdapterFamily::Sdxl);
    }
    lora.text_width().or_else(|| lora.encoder_width(0)).and_then(AdapterFamily::of_text_width)
}

/// Refuses a file whose name says that it is a pickle, before it is opened.
pub(super) fn refuse_pickle(path: &Path) -> Result<()> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if ["bin", "ckpt", "pt", "pth", "pkl"].iter().any(|pickle| extension.eq_ignore_ascii_case(pickle)) {
        return Err(Error::Pickle { path: path.to_owned() });
    }
    Ok(())
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
