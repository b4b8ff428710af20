//! Which files make up a model or an adapter: all that are read when it is loaded, and all that its people
//! list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::folder::is_pickle;
use crate::sidecar::Sidecar;
use crate::source::{ModelSource, Part};
use crate::{Error, Result, controlnet};

/// Files on this machine that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    /// The folder that they lie in.
    pub root: PathBuf,
    /// The file that is opened; absent where it is the folder.
    pub entry: Option<String>,
    /// Their paths below the folder, with `/` between names, in order.
    pub files: Vec<String>,
}

/// The files of a model, a folder or a checkpoint in one file. The header of every file with weights is read
/// and checked.
///
/// Errors: a part that is missing or malformed, and weights that are pickles.
pub fn model_files(model: &Path) -> Result<FileList> {
    let source = ModelSource::open(model)?;
    for part in source.family().weighted_parts() {
        source.weights(*part)?;
    }
    let sidecar = Sidecar::read(model)?;
    let mut files: BTreeSet<String> = sidecar.files().keys().cloned().collect();
    let (root, entry) = match &source {
        ModelSource::Folder(folder) => {
            files.insert("model_index.json".to_owned());
            files.insert(format!("{}/scheduler_config.json", Part::Scheduler.name()));
            for (part, names) in folder.components()? {
                files.extend(names.into_iter().map(|name| format!("{part}/{name}")));
            }
            (model.to_owned(), None)
        }
        ModelSource::Checkpoint(_) => (parent(model), Some(name(model)?)),
    };
    files.extend(entry.clone());
    if sidecar.path().is_file() {
        files.insert(name(sidecar.path())?);
    }
    if let Some(decoder) = source.preview_decoder() {
        files.extend(decoder_files(&decoder)?);
    }
    Ok(FileList { root, entry, files: files.into_iter().collect() })
}

/// The files of a LoRA, a textual inversion or a ControlNet that [`crate::describe_adapter`] describes.
///
/// Errors: files of a ControlNet that are missing or pickles, and a name that is no text.
pub fn adapter_files(path: &Path) -> Result<FileList> {
    if path.is_dir() {
        return Ok(FileList { root: path.to_owned(), entry: None, files: controlnet::files(path)? });
    }
    let entry = name(path)?;
    Ok(FileList { root: parent(path), files: vec![entry.clone()], entry: Some(entry) })
}

/// The files of a decoder for previews, below its model's folder.
fn decoder_files(decoder: &Path) -> Result<Vec<String>> {
    let own = name(decoder)?;
    if decoder.is_file() {
        return Ok(vec![own]);
    }
    let entries = std::fs::read_dir(decoder);
    let entries = entries.map_err(|source| Error::Io { path: decoder.to_owned(), source })?;
    let is_read = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        path.is_file() && !is_pickle(path) && ["json", "safetensors"].contains(&ending)
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(is_read);
    paths.map(|path| Ok(format!("{own}/{}", name(&path)?))).collect()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

fn name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Error::Malformed {
        path: path.to_owned(),
        reason: "its name is not UTF-8: rename the file".to_owned(),
    })
}
