//! A model's manifest: what it is made of, by digest, and what a request to it may ask.
//!
//! Read from the configurations of its parts and from what its people say of it; see `sidecar`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use seedfarm_core::limits;
use seedfarm_core::model::ModelDefaults;
use seedfarm_core::{ArtifactDigest, ComponentDigest, ModelManifest, Sampler};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::config::unet::UnetConfig;
use crate::config::vae::VaeConfig;
use crate::config::{ConfigFile, scheduler};
use crate::folder::ModelFolder;
use crate::sidecar::Sidecar;
use crate::source::{Family, ModelSource, Part};
use crate::vocabulary::CLIP_MERGES;
use crate::{Error, Result};

/// Width of the texts that the UNet of Stable Diffusion 2 looks at.
const SD2_TEXT_WIDTH: usize = 1024;

/// Reads the manifest of a model, a folder or a checkpoint in one file, digesting every file that enters the
/// pixels.
///
/// Errors: a part of the model that is missing, malformed or unsupported, and a file whose SHA-256 is not the
/// one that the file beside the model lists.
pub fn read_manifest(model: &Path) -> Result<ModelManifest> {
    let source = ModelSource::open(model)?;
    let sidecar = Sidecar::read(model)?;
    let unet_file = source.config(Part::Unet)?;
    let unet = UnetConfig::read(&unet_file)?;
    let vae = VaeConfig::read(&source.config(Part::Vae)?)?;
    let schedule = scheduler::read(&source.config(Part::Scheduler)?, source.family())?;
    let mut digests = Digests::new(model, &sidecar)?;
    let components = digests.components(&source, &sidecar)?;
    digests.check_listed()?;
    let defaults = match sidecar.defaults() {
        Some(defaults) => defaults.clone(),
        None => defaults(&unet_file, &vae, schedule.sampler)?,
    };
    Ok(ModelManifest {
        name: sidecar.name().map_or_else(|| own_name(model), str::to_owned),
        family: family(&source, &unet).to_owned(),
        components,
        noise_schedule: schedule.noise_schedule,
        defaults,
        size_multiple: vae.pixels_per_latent() as u32,
        max_side: sidecar.max_side().unwrap_or(limits::MAX_SIDE).min(limits::MAX_SIDE),
        inpainting: unet.trunk.in_channels == 2 * vae.latent_channels + 1,
        weights_bytes: weights_bytes(&source, model)?,
        licence: sidecar.licence().map(str::to_owned),
    })
}

/// The family of a model: Stable Diffusion 2 has the layers of 1, but looks at wider texts.
fn family(source: &ModelSource, unet: &UnetConfig) -> &'static str {
    match source.family() {
        Family::StableDiffusion if unet.trunk.text_width == SD2_TEXT_WIDTH => "stable-diffusion-2",
        family => family.as_str(),
    }
}

/// Bytes of all weights.
fn weights_bytes(source: &ModelSource, model: &Path) -> Result<u64> {
    match source {
        ModelSource::Folder(folder) => folder.weights_bytes(),
        ModelSource::Checkpoint(_) => {
            let data = std::fs::metadata(model);
            data.map(|data| data.len()).map_err(|source| Error::Io { path: model.to_owned(), source })
        }
    }
}

/// What a model without a manifest leaves open: its training size, and common settings.
fn defaults(unet: &ConfigFile, vae: &VaeConfig, sampler: Sampler) -> Result<ModelDefaults> {
    let latent_side = unet.count("sample_size", Some(64), 1..=512)?;
    let side = u32::try_from(latent_side * vae.pixels_per_latent()).unwrap_or(u32::MAX).min(limits::MAX_SIDE);
    Ok(ModelDefaults { width: side, height: side, steps: 30, guidance: 7.5, sampler })
}

/// The name of the folder, or of the file without its ending.
fn own_name(model: &Path) -> String {
    let absolute = std::path::absolute(model).unwrap_or_else(|_| model.to_owned());
    let name = if model.is_file() { absolute.file_stem() } else { absolute.file_name() };
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Digests of a model's files, held against those that its people list.
struct Digests<'a> {
    sidecar: &'a Sidecar,
    /// What names of files are below.
    folder: PathBuf,
    known: BTreeMap<String, ArtifactDigest>,
}

impl<'a> Digests<'a> {
    fn new(model: &Path, sidecar: &'a Sidecar) -> Result<Self> {
        let outside =
            |name: &&String| !Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if let Some(name) = sidecar.files().keys().find(outside) {
            let reason = format!("lists '{name}', which is not a path inside the folder");
            return Err(Error::Malformed { path: sidecar.path().to_owned(), reason });
        }
        let folder = if model.is_file() { model.parent().unwrap_or(Path::new("")) } else { model };
        Ok(Self { sidecar, folder: folder.to_owned(), known: BTreeMap::new() })
    }

    /// The digest of each component.
    fn components(
        &mut self,
        source: &ModelSource,
        sidecar: &Sidecar,
    ) -> Result<BTreeMap<String, ComponentDigest>> {
        match source {
            ModelSource::Folder(folder) => self.folder_components(folder),
            ModelSource::Checkpoint(checkpoint) => {
                let mut components = BTreeMap::new();
                let file = self.digest_at("checkpoint", checkpoint.path())?;
                components.insert("checkpoint".to_owned(), checkpoint_digest(file, sidecar));
                for part in source.family().tokenizers() {
                    let digest = tokenizer_digest(checkpoint.padding(*part));
                    components.insert(part.name().to_owned(), digest);
                }
                Ok(components)
            }
        }
    }

    /// Of a folder: over the names and digests of a component's files.
    fn folder_components(&mut self, folder: &ModelFolder) -> Result<BTreeMap<String, ComponentDigest>> {
        let mut components = BTreeMap::new();
        for (name, files) in folder.components()? {
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
        let path = self.folder.join(name);
        self.digest_at(name, &path)
    }

    /// The digest of one file that is listed as `name`.
    fn digest_at(&mut self, name: &str, path: &Path) -> Result<ArtifactDigest> {
        if let Some(digest) = self.known.get(name) {
            return Ok(*digest);
        }
        let digest = sha256_of_file(path)?;
        if let Some(listed) = self.sidecar.files().get(name).filter(|listed| **listed != digest) {
            let list = self.sidecar.path().file_name().unwrap_or_default().to_string_lossy();
            let reason = format!(
                "has SHA-256 {digest}, but {list} lists {listed}: the file is damaged or was changed"
            );
            return Err(Error::Malformed { path: path.to_owned(), reason });
        }
        self.known.insert(name.to_owned(), digest);
        Ok(digest)
    }

    /// Holds every listed file against its digest, used or not.
    fn check_listed(&mut self) -> Result<()> {
        let sidecar = self.sidecar;
        sidecar.files().keys().try_for_each(|name| self.digest(name).map(drop))
    }
}

/// The digest of a checkpoint in one file: over the file's, and over what is said of its configurations where
/// that reaches the pixels. The scheduler's does through the recipe.
fn checkpoint_digest(file: ArtifactDigest, sidecar: &Sidecar) -> ComponentDigest {
    let told: BTreeMap<_, _> =
        sidecar.config().iter().filter(|(part, _)| part.as_str() != Part::Scheduler.name()).collect();
    if told.is_empty() {
        return ComponentDigest::of_json(&json!({ "file": file }));
    }
    ComponentDigest::of_json(&json!({ "file": file, "config": told }))
}

/// The digest of the built-in tokenizer, of which models differ in what fills a window.
fn tokenizer_digest(padding: &str) -> ComponentDigest {
    let merges = ArtifactDigest::from_bytes(Sha256::digest(CLIP_MERGES).into());
    ComponentDigest::of_json(&json!({ "merges.txt": merges, "padding": padding }))
}

/// SHA-256 of a file's bytes, read in pieces.
///
/// Errors: a file that is missing or cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<ArtifactDigest> {
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
