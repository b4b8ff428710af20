//! What the farm distributes: a model or an adapter with all its files.
//!
//! A package is known by the digest of what it holds, whatever its name. Its files are known by their
//! SHA-256, so that two packages share what is the same in both.

mod fault;
mod path;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::adapter::AdapterManifest;
use crate::digest::{FileDigest, PackageDigest};
use crate::limits;
use crate::model::ModelManifest;

pub use fault::PackageFault;
pub use path::PackagePath;

/// What a package is, without its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageManifest {
    /// A model.
    Model(ModelManifest),
    /// A LoRA, a textual inversion or a ControlNet.
    Adapter(AdapterManifest),
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFile {
    /// Where it lies in the package.
    pub path: PackagePath,
    /// SHA-256 of its bytes.
    pub sha256: FileDigest,
    /// How many bytes those are.
    pub bytes: u64,
}

/// A model or an adapter with all its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// What it is.
    pub manifest: PackageManifest,
    /// The file that is opened; absent where it is the whole folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<PackagePath>,
    /// Its files, at least one.
    pub files: Vec<PackageFile>,
}

impl PackageManifest {
    /// The digest of the model or of the adapter.
    pub fn digest(&self) -> PackageDigest {
        match self {
            Self::Model(manifest) => manifest.digest().into(),
            Self::Adapter(manifest) => manifest.digest.into(),
        }
    }

    /// The name under which people ask for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(manifest) => &manifest.name,
            Self::Adapter(manifest) => &manifest.name,
        }
    }

    /// `model`, `lora`, `embedding` or `control`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Adapter(manifest) => manifest.kind.as_str(),
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn renamed(mut self, name: String) -> Self {
        match &mut self {
            Self::Model(manifest) => manifest.name = name,
            Self::Adapter(manifest) => manifest.name = name,
        }
        self
    }

    /// Whether `other` is the same but for what people say of it, its name and its licence.
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Model(own), Self::Model(other)) => {
                let other = other.clone();
                *own == ModelManifest { name: own.name.clone(), licence: own.licence.clone(), ..other }
            }
            _ => *self == other.clone().renamed(self.name().to_owned()),
        }
    }
}

impl Package {
    /// The digest of the model or of the adapter.
    pub fn digest(&self) -> PackageDigest {
        self.manifest.digest()
    }

    /// Bytes of all files; a file that lies in two places counts twice.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Holds a package that a stranger describes against the limits.
    ///
    /// # Errors
    /// The first limit that it breaks, with the value and the way out.
    pub fn check(&self) -> Result<(), PackageFault> {
        self.check_texts()?;
        if self.files.is_empty() {
            return Err(PackageFault::NoFiles);
        }
        if self.files.len() > limits::MAX_PACKAGE_FILES {
            return Err(PackageFault::TooManyFiles { given: self.files.len() });
        }
        if let Some(file) = self.files.iter().find(|file| file.bytes > limits::MAX_MODEL_FILE_BYTES) {
            return Err(PackageFault::FileTooLarge { path: file.path.clone(), bytes: file.bytes });
        }
        if self.bytes() > limits::MAX_PACKAGE_BYTES {
            return Err(PackageFault::TooLarge { bytes: self.bytes() });
        }
        self.check_sizes_agree()?;
        self.check_paths()
    }

    fn check_texts(&self) -> Result<(), PackageFault> {
        let licence = match &self.manifest {
            PackageManifest::Model(manifest) => manifest.licence.as_deref().unwrap_or_default(),
            PackageManifest::Adapter(manifest) => manifest.family.as_deref().unwrap_or_default(),
        };
        let name = self.manifest.name();
        let odd = |text: &str| text.len() > limits::MAX_NAME_BYTES || text.chars().any(char::is_control);
        if name.trim().is_empty() || odd(name) {
            return Err(PackageFault::BadText { field: "name", bytes: name.len() });
        }
        if odd(licence) {
            return Err(PackageFault::BadText { field: "licence or family", bytes: licence.len() });
        }
        match &self.manifest {
            PackageManifest::Model(manifest) if manifest.components.is_empty() => {
                Err(PackageFault::NoComponents)
            }
            _ => Ok(()),
        }
    }

    /// One digest has one size.
    fn check_sizes_agree(&self) -> Result<(), PackageFault> {
        let mut sizes = std::collections::BTreeMap::new();
        for file in &self.files {
            if *sizes.entry(file.sha256).or_insert(file.bytes) != file.bytes {
                return Err(PackageFault::TwoSizes { sha256: file.sha256 });
            }
        }
        Ok(())
    }

    /// No two files in one place, whatever the case of their letters, none inside another, and the entry
    /// among them.
    fn check_paths(&self) -> Result<(), PackageFault> {
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if !seen.insert(file.path.folded()) {
                return Err(PackageFault::TwiceThere { path: file.path.clone() });
            }
        }
        let inside = |file: &&PackageFile| file.path.parents().any(|parent| seen.contains(&parent));
        if let Some(file) = self.files.iter().find(inside) {
            return Err(PackageFault::InsideAFile { path: file.path.clone() });
        }
        match &self.entry {
            Some(entry) if !self.files.iter().any(|file| file.path == *entry) => {
                Err(PackageFault::NoEntry { path: entry.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// How many parts a file of so many bytes is handed over in: none for an empty one.
pub const fn parts(bytes: u64) -> u64 {
    bytes.div_ceil(limits::MODEL_PART_BYTES)
}

/// Bytes of part `part` (from 0) of a file of `bytes`; 0 past its end.
pub const fn part_bytes(bytes: u64, part: u64) -> u64 {
    let left = bytes.saturating_sub(part.saturating_mul(limits::MODEL_PART_BYTES));
    if left < limits::MODEL_PART_BYTES { left } else { limits::MODEL_PART_BYTES }
}
