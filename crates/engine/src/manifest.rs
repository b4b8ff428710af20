//! A model folder's manifest: what it is made of, by digest, and what a request to it may ask.
//!
//! Read from the configurations that diffusers writes and from an optional `manifest.toml` beside them,
//! which gives the name, the licence, the defaults and the SHA-256 that each file must have:
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
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use seedfarm_core::limits;
use seedfarm_core::model::ModelDefaults;
use seedfarm_core::{ArtifactDigest, ComponentDigest, ModelManifest, Sampler};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::config::unet::UnetConfig;
use crate::config::vae::VaeConfig;
use crate::config::{ConfigFile, read_bounded, scheduler};
use crate::folder::ModelFolder;
use crate::source::{ModelSource, Part};
use crate::{Error, Result};

/// The name of the manifest in a model folder.
const FILE_NAME: &str = "manifest.toml";
/// Largest manifest that is read, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The text of `manifest.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    name: Option<String>,
    licence: Option<String>,
    max_side: Option<u32>,
    defaults: Option<ModelDefaults>,
    #[serde(default)]
    files: BTreeMap<String, ArtifactDigest>,
}

/// Reads a model folder's manifest, digesting every file that enters the pixels.
///
/// Errors: a part of the folder that is missing, malformed or unsupported, and a file whose SHA-256 is not
/// the one that `manifest.toml` lists.
pub fn read_manifest(folder: &Path) -> Result<ModelManifest> {
    let source = ModelSource::open(folder)?;
    let file = ManifestFile::read(folder)?;
    let mut digests = Digests::new(folder, &file)?;
    let components = digests.components(source.folder())?;
    digests.check_listed()?;
    let unet = source.config(Part::Unet)?;
    UnetConfig::read(&unet)?;
    let vae = VaeConfig::read(&source.config(Part::Vae)?)?;
    let schedule = scheduler::read(&source.config(Part::Scheduler)?, source.family())?;
    let defaults = match file.defaults {
        Some(defaults) => defaults,
        None => defaults(&unet, &vae, schedule.sampler)?,
    };
    Ok(ModelManifest {
        name: file.name.unwrap_or_else(|| folder_name(folder)),
        family: source.family().as_str().to_owned(),
        components,
        noise_schedule: schedule.noise_schedule,
        defaults,
        size_multiple: vae.pixels_per_latent() as u32,
        max_side: file.max_side.unwrap_or(limits::MAX_SIDE).min(limits::MAX_SIDE),
        inpainting: false,
        weights_bytes: source.folder().weights_bytes()?,
        licence: file.licence,
    })
}

/// What a model without a manifest leaves open: its training size, and common settings.
fn defaults(unet: &ConfigFile, vae: &VaeConfig, sampler: Sampler) -> Result<ModelDefaults> {
    let latent_side = unet.count("sample_size", Some(64), 1..=512)?;
    let side = u32::try_from(latent_side * vae.pixels_per_latent()).unwrap_or(u32::MAX).min(limits::MAX_SIDE);
    Ok(ModelDefaults { width: side, height: side, steps: 30, guidance: 7.5, sampler })
}

fn folder_name(folder: &Path) -> String {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl ManifestFile {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let malformed = |reason: String| Error::Malformed { path: path.clone(), reason };
        let bytes = read_bounded(&path, MAX_MANIFEST_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
        toml::from_str(text).map_err(|error| malformed(error.to_string()))
    }
}

/// Digests of a folder's files, held against those that the manifest lists.
struct Digests<'a> {
    folder: &'a Path,
    listed: &'a BTreeMap<String, ArtifactDigest>,
    known: BTreeMap<String, ArtifactDigest>,
}

impl<'a> Digests<'a> {
    fn new(folder: &'a Path, file: &'a ManifestFile) -> Result<Self> {
        let outside =
            |name: &&String| !Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if let Some(name) = file.files.keys().find(outside) {
            let reason = format!("lists '{name}', which is not a path inside the folder");
            return Err(Error::Malformed { path: folder.join(FILE_NAME), reason });
        }
        Ok(Self { folder, listed: &file.files, known: BTreeMap::new() })
    }

    /// The digest of each component: over its files' names and digests.
    fn components(&mut self, parts: &ModelFolder) -> Result<BTreeMap<String, ComponentDigest>> {
        let mut components = BTreeMap::new();
        for (name, files) in parts.components()? {
            let mut digests = BTreeMap::new();
            for file in files {
                let digest = self.digest(&format!("{name}/{file}"))?;
                digests.insert(file, digest);
            }
            components.insert(name.to_owned(), ComponentDigest::of_json(&digests));
        }
        Ok(components)
    }

    /// The digest of one file by its path below the folder.
    fn digest(&mut self, name: &str) -> Result<ArtifactDigest> {
        if let Some(digest) = self.known.get(name) {
            return Ok(*digest);
        }
        let path = self.folder.join(name);
        let digest = sha256_of_file(&path)?;
        if let Some(listed) = self.listed.get(name).filter(|listed| **listed != digest) {
            let reason = format!(
                "has SHA-256 {digest}, but {FILE_NAME} lists {listed}: the file is damaged or was changed"
            );
            return Err(Error::Malformed { path, reason });
        }
        self.known.insert(name.to_owned(), digest);
        Ok(digest)
    }

    /// Holds every listed file against its digest, used or not.
    fn check_listed(&mut self) -> Result<()> {
        let listed = self.listed;
        listed.keys().try_for_each(|name| self.digest(name).map(drop))
    }
}

/// SHA-256 of a file's bytes, read in pieces.
pub(crate) fn sha256_of_file(path: &Path) -> Result<ArtifactDigest> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: PathBuf::from(path) },
        _ => Error::Io { path: PathBuf::from(path), source },
    };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(io)? {
            0 => return Ok(ArtifactDigest::from_bytes(hasher.finalize().into())),
            length => hasher.update(&piece[..length]),
        }
    }
}
