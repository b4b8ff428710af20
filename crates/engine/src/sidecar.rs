//! What the people of a model say of it: `manifest.toml` in a folder, or beside a checkpoint in one file the
//! file of the same name that ends in `.toml`.
//!
//! ```toml
//! name = "emoji-starter"
//! licence = "MIT"
//! max_side = 128
//!
//! [defaults]
//! width = 64
//! height = 64
//! steps = 20
//! guidance = 3.0
//! sampler = "ddim"
//!
//! [files]
//! "unet/config.json" = "63af..."
//!
//! # Beside a checkpoint alone: what its tensors do not tell, with the keys of diffusers' configurations.
//! [config.scheduler]
//! prediction_type = "epsilon"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use seedfarm_core::ArtifactDigest;
use seedfarm_core::model::ModelDefaults;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::read_bounded;
use crate::{Error, Result};

/// The name in a model folder.
const IN_FOLDER: &str = "manifest.toml";
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The file's text, and where it is or would be.
#[derive(Debug)]
pub(crate) struct Sidecar {
    path: PathBuf,
    text: Text,
}

/// The text itself. An absent file says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: Option<String>,
    licence: Option<String>,
    max_side: Option<u32>,
    defaults: Option<ModelDefaults>,
    #[serde(default)]
    files: BTreeMap<String, ArtifactDigest>,
    #[serde(default)]
    config: BTreeMap<String, Map<String, Value>>,
}

impl Sidecar {
    /// Where it is for a model in a folder or in one file.
    pub fn path_beside(model: &Path) -> PathBuf {
        if model.is_file() { model.with_extension("toml") } else { model.join(IN_FOLDER) }
    }

    /// Reads it for a model in a folder or in one file.
    ///
    /// Errors: a file that is not what is described above.
    pub fn read(model: &Path) -> Result<Self> {
        let path = Self::path_beside(model);
        if !path.is_file() {
            return Ok(Self { path, text: Text::default() });
        }
        let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
        let bytes = read_bounded(&path, MAX_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
        let text: Text = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if !model.is_file() && !text.config.is_empty() {
            let reason = "[config] is for checkpoints in one file: a folder has its own config.json files";
            return Err(malformed(reason.to_owned()));
        }
        Ok(Self { path, text })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name under which people ask for the model.
    pub fn name(&self) -> Option<&str> {
        self.text.name.as_deref()
    }

    /// The licence.
    pub fn licence(&self) -> Option<&str> {
        self.text.licence.as_deref()
    }

    /// The largest width and height, in pixels.
    pub fn max_side(&self) -> Option<u32> {
        self.text.max_side
    }

    /// What requests leave open.
    pub fn defaults(&self) -> Option<&ModelDefaults> {
        self.text.defaults.as_ref()
    }

    /// The SHA-256 that files must have, by their paths below the folder.
    pub fn files(&self) -> &BTreeMap<String, ArtifactDigest> {
        &self.text.files
    }

    /// What is said of the configurations, by part.
    pub fn config(&self) -> &BTreeMap<String, Map<String, Value>> {
        &self.text.config
    }

    /// Puts what is said of a part's configuration in the place of what its tensors told.
    ///
    /// Errors: a key that the configuration does not have.
    pub fn replace(&self, part: &str, values: &mut Map<String, Value>) -> Result<()> {
        for (key, value) in self.text.config.get(part).into_iter().flatten() {
            let known = values.keys().cloned().collect::<Vec<_>>().join(", ");
            let Some(told) = values.get_mut(key) else {
                return Err(self.fault(&format!("config.{part}.{key}"), format!("is not one of {known}")));
            };
            *told = value.clone();
        }
        Ok(())
    }

    /// Refuses what is said of parts that the model does not have.
    pub fn expect_parts<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Result<()> {
        let parts: BTreeSet<&str> = parts.collect();
        match self.text.config.keys().find(|part| !parts.contains(part.as_str())) {
            Some(part) => {
                let known = parts.into_iter().collect::<Vec<_>>().join(", ");
                Err(self.fault(&format!("config.{part}"), format!("is not one of the model's parts {known}")))
            }
            None => Ok(()),
        }
    }

    fn fault(&self, key: &str, reason: String) -> Error {
        Error::Config { path: self.path.clone(), key: key.to_owned(), reason }
    }
}
