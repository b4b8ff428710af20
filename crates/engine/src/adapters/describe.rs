//! What an adapter's file is, from its header alone.

use std::collections::BTreeMap;
use std::path::Path;

use seedfarm_core::{AdapterDigest, AdapterKind, AdapterManifest};

use super::embedding::EmbeddingFile;
use super::family::AdapterFamily;
use super::keys;
use super::lora::LoraFile;
use crate::controlnet;
use crate::manifest::sha256_of_file;
use crate::weights::WeightsFile;
use crate::{Error, Result};

/// Says what a file or folder is, reading headers and digesting its bytes; `None` for one that is no adapter.
///
/// Errors: a file that is no safetensors file, a pickle among them; an adapter that cannot be used, with the
/// tensor or key and the reason.
pub fn describe_adapter(path: &Path) -> Result<Option<AdapterManifest>> {
    if path.is_dir() {
        return if controlnet::is_folder(path) { describe_control(path).map(Some) } else { Ok(None) };
    }
    refuse_pickle(path)?;
    let names: Vec<String> = WeightsFile::open(path)?.names().map(str::to_owned).collect();
    let (kind, name, family) = if names.iter().any(|name| keys::is_loras(name)) {
        (AdapterKind::Lora, stem(path), lora_family(&LoraFile::open(path)?))
    } else if let Ok(embedding) = EmbeddingFile::open(path) {
        let word = embedding.word().map_or_else(|| stem(path), str::to_owned);
        (AdapterKind::Embedding, word, AdapterFamily::of_encoder_widths(&embedding.widths()))
    } else {
        return Ok(None);
    };
    let family = family.map(|family| family.of_models().to_owned());
    Ok(Some(AdapterManifest { name, kind, digest: digest_of(kind, path)?, family, bytes: bytes_of(path)? }))
}

fn describe_control(folder: &Path) -> Result<AdapterManifest> {
    let family = AdapterFamily::of_text_width(controlnet::text_width(folder)?);
    let files = controlnet::files(folder)?;
    let bytes = files.iter().map(|file| bytes_of(&folder.join(file))).sum::<Result<u64>>()?;
    Ok(AdapterManifest {
        name: folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        kind: AdapterKind::Control,
        digest: digest_of(AdapterKind::Control, folder)?,
        family: family.map(|family| family.of_models().to_owned()),
        bytes,
    })
}

/// SHA-256 of a file; of a ControlNet's folder, of the canonical JSON of its file names and their SHA-256.
pub(super) fn digest_of(kind: AdapterKind, path: &Path) -> Result<AdapterDigest> {
    if kind != AdapterKind::Control {
        return Ok(AdapterDigest::from_bytes(*sha256_of_file(path)?.as_bytes()));
    }
    let digest = |file: String| Ok((sha256_of_file(&path.join(&file))?, file));
    let digests = controlnet::files(path)?.into_iter().map(digest).collect::<Result<Vec<_>>>()?;
    let by_name: BTreeMap<&str, String> =
        digests.iter().map(|(digest, file)| (file.as_str(), digest.to_string())).collect();
    Ok(AdapterDigest::of_json(&by_name))
}

fn bytes_of(path: &Path) -> Result<u64> {
    let data = std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    Ok(data.len())
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
