//! Checkpoints in one `.safetensors` file, as Stable Diffusion 1, 2 and XL were first published and as most
//! of their descendants still are.
//!
//! Their tensors have the names of the programs that trained them. `names` says under which name of
//! diffusers each is asked for, `family` tells the architectures apart, `config` gives the configuration
//! that diffusers keeps in files of its own.
//!
//! Reference: diffusers' `loaders/single_file_utils.py`.

mod config;
mod family;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::family::Kind;
use self::names::Names;
use crate::config::ConfigFile;
use crate::sidecar::Sidecar;
use crate::source::{Family, Part};
use crate::weights::{SafetensorsFile, UNKNOWN, WeightsFile};
use crate::{Error, Result};

/// A checkpoint whose header has been read and whose every tensor has its place.
pub(crate) struct Checkpoint {
    path: PathBuf,
    kind: Kind,
    configs: BTreeMap<Part, Map<String, Value>>,
}

impl Checkpoint {
    /// Reads the header, tells the architecture and makes the configurations, with what the file beside it
    /// says otherwise.
    ///
    /// Errors: a file that is no checkpoint of a supported architecture, a tensor that belongs to none of
    /// its parts, a configuration that is not told by the tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let kind = family::tell(&file)?;
        let names = Names::of(&file, kind)?;
        for key in file.keys().filter(|key| !names::is_leftover(key)) {
            if names.part(key).is_none() {
                return Err(file.fault(key, "belongs to no part of the model that is computed"));
            }
            if names.stored(&file, key, usize::MAX).is_none() {
                return Err(file.fault(key, UNKNOWN));
            }
        }
        let sidecar = Sidecar::read(path)?;
        let mut configs = BTreeMap::new();
        for part in kind.family().weighted_parts().iter().chain([&Part::Scheduler]) {
            let mut values = config::of(&file, kind, *part)?;
            sidecar.replace(part.name(), &mut values)?;
            configs.insert(*part, values);
        }
        sidecar.expect_parts(configs.keys().map(|part| part.name()))?;
        Ok(Self { path: path.to_owned(), kind, configs })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architecture.
    pub fn family(&self) -> Family {
        self.kind.family()
    }

    /// A part's configuration.
    ///
    /// Errors: a value that neither the tensors nor the file beside the checkpoint tell.
    pub fn config(&self, part: Part) -> Result<ConfigFile> {
        let values = &self.configs[&part];
        let config = ConfigFile::of(&self.path, values.clone());
        match values.iter().find(|(_, value)| value.is_null()) {
            Some((key, _)) => {
                let (part, beside) = (part.name(), Sidecar::path_beside(&self.path));
                let reason = format!(
                    "is not told by the tensors: set it under [config.{part}] in {}",
                    beside.display()
                );
                Err(config.fault(key, reason))
            }
            None => Ok(config),
        }
    }

    /// A part's weights, under the names of diffusers.
    pub fn weights(&self, part: Part) -> Result<WeightsFile> {
        let file = SafetensorsFile::open(&self.path)?;
        let names = Names::of(&file, self.kind)?;
        let mut tensors = BTreeMap::new();
        for key in file.keys().filter(|key| names.part(key) == Some(part) && !names::is_leftover(key)) {
            let stored =
                names.stored(&file, key, self.layers(part)).ok_or_else(|| file.fault(key, UNKNOWN))?;
            for (name, stored) in stored {
                if tensors.insert(name, stored).is_some() {
                    return Err(file.fault(key, "is there twice, under two spellings of its name"));
                }
            }
        }
        Ok(WeightsFile::view(file, tensors))
    }

    /// The text that ends a prompt's window when it is not full.
    pub fn padding(&self, part: Part) -> &'static str {
        self.kind.padding(part)
    }

    /// Layers of a text encoder that are used; there may be more in the file.
    fn layers(&self, part: Part) -> usize {
        let layers = self.configs[&part].get("num_hidden_layers").and_then(Value::as_u64);
        layers.and_then(|layers| usize::try_from(layers).ok()).unwrap_or(usize::MAX)
    }
}

/// Refuses a file that is no checkpoint of Stable Diffusion 1, 2 or XL in one `.safetensors` file. Only its
/// header is read.
///
/// Errors: what the file seems to be instead, or what is wrong with it.
pub fn check_checkpoint(path: &Path) -> Result<()> {
    check_name(path)?;
    let file = SafetensorsFile::open(path)?;
    family::tell(&file).map(drop)
}

/// Refuses what is no safetensors file by its name, with the reason.
pub(crate) fn check_name(path: &Path) -> Result<()> {
    if crate::folder::is_pickle(path) {
        return Err(Error::Pickle { path: path.to_owned() });
    }
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("safetensors")) {
        let reason =
            "is a single file, but not .safetensors: a model is such a file, or a folder in the layout \
                      that diffusers writes"
                .to_owned();
        return Err(Error::Malformed { path: path.to_owned(), reason });
    }
    Ok(())
}
