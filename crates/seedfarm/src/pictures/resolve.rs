//! From paths in a request to digests: each picture is read, brought to size, and handed over once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::imageops::FilterType;
use seedfarm_core::plan::{Catalogue, JobSpec, PictureSize, Settings};
use seedfarm_core::settings::PictureRef;
use seedfarm_core::{ArtifactDigest, ModelManifest};

use super::fit::{Prepared, following};
use super::read::{Loaded, read};
use crate::client::{Farm, upload};

/// Most notes that are shown.
const MAX_NOTES: usize = 10;

/// Where prepared pictures go.
#[derive(Debug)]
pub enum Destination {
    /// To a farm.
    Farm(Farm),
    /// Kept here, for an engine in this process.
    Here(BTreeMap<ArtifactDigest, Prepared>),
}

/// Exchanges paths for digests.
#[derive(Debug)]
pub struct Resolver {
    manifest: ModelManifest,
    /// Whether a picture of another size is brought to size, or refused.
    resize: bool,
    destination: Destination,
    /// The picture read last.
    last: Option<(PathBuf, Loaded)>,
    done: HashMap<(PathBuf, (u32, u32), Use), ArtifactDigest>,
    notes: BTreeSet<String>,
}

/// What a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    /// To be looked at.
    Picture,
    /// A mask, whose edges stay sharp.
    Mask,
}

/// Whether a request names a picture by its path.
pub fn names_a_path(spec: &JobSpec) -> bool {
    let all = std::iter::once(&spec.settings).chain(spec.prompts.iter().map(|line| &line.settings));
    all.flat_map(Settings::pictures).any(|picture| matches!(picture, PictureRef::Path(_)))
}

impl Resolver {
    /// For requests to the model of `manifest`.
    pub fn new(manifest: ModelManifest, resize: bool, destination: Destination) -> Self {
        Self { manifest, resize, destination, last: None, done: HashMap::new(), notes: BTreeSet::new() }
    }

    /// Exchanges every path in a request. Those of its lines lie in `folder`, those of the whole request in
    /// the present one. Where no size is asked for, images get that of their source picture.
    ///
    /// # Errors
    /// A picture that cannot be read or brought to size, or that the farm refuses.
    pub async fn resolve(&mut self, spec: &mut JobSpec, folder: &Path) -> Result<()> {
        if !names_a_path(spec) {
            return Ok(());
        }
        let job = spec.settings.clone();
        (spec.settings.source, spec.settings.controls) = (None, None);
        for line in &mut spec.prompts {
            line.settings.pictures_mut().for_each(|picture| join(folder, picture));
            inherit(&mut line.settings, &job);
            self.line(&mut line.settings, &job).await?;
        }
        Ok(())
    }

    /// What became of the pictures, for people.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.notes.iter().take(MAX_NOTES).cloned().collect();
        if let Some(more) = self.notes.len().checked_sub(MAX_NOTES).filter(|more| *more > 0) {
            notes.push(format!("and {more} more pictures"));
        }
        notes
    }

    /// What was kept here: the files, and their sizes for a plan.
    pub fn into_files(self, catalogue: &mut Catalogue) -> BTreeMap<ArtifactDigest, Prepared> {
        let Destination::Here(files) = self.destination else { return BTreeMap::new() };
        catalogue.pictures.extend(files.iter().map(|(digest, prepared)| (*digest, prepared.size)));
        files
    }

    async fn line(&mut self, settings: &mut Settings, job: &Settings) -> Result<()> {
        let size = self.size(settings, job)?;
        if let Some(source) = &mut settings.source {
            self.exchange(&mut source.image, size, Use::Picture).await?;
            if let Some(mask) = &mut source.mask {
                self.exchange(mask, size, Use::Mask).await?;
            }
        }
        for control in settings.controls.iter_mut().flatten() {
            self.exchange(&mut control.image, size, Use::Picture).await?;
        }
        Ok(())
    }

    /// The size of a line's images; one that follows the source is written into the line.
    fn size(&mut self, settings: &mut Settings, job: &Settings) -> Result<PictureSize> {
        let asked = (settings.width.or(job.width), settings.height.or(job.height));
        if let (Some(width), Some(height)) = asked {
            return Ok(PictureSize { width, height });
        }
        let path = settings.source.as_ref().and_then(|source| match &source.image {
            PictureRef::Path(path) => Some(PathBuf::from(path)),
            PictureRef::Digest(_) => None,
        });
        let defaults = &self.manifest.defaults;
        let mut size = PictureSize { width: defaults.width, height: defaults.height };
        if let Some(path) = path {
            let (multiple, max_side) = (self.manifest.size_multiple, self.manifest.max_side);
            let given = self.load(&path)?.size();
            size = following(given, multiple, max_side);
            if size != given {
                let shown = path.display();
                self.notes.insert(format!(
                    "{shown} is {given}, so its images are {size}: multiples of {multiple} up to {max_side} (or give --width and --height)"
                ));
            }
        }
        let size =
            PictureSize { width: asked.0.unwrap_or(size.width), height: asked.1.unwrap_or(size.height) };
        (settings.width, settings.height) = (Some(size.width), Some(size.height));
        Ok(size)
    }

    async fn exchange(&mut self, picture: &mut PictureRef, size: PictureSize, used: Use) -> Result<()> {
        let PictureRef::Path(path) = &*picture else { return Ok(()) };
        let key = (PathBuf::from(path), (size.width, size.height), used);
        let digest = match self.done.get(&key) {
            Some(digest) => *digest,
            None => {
                let digest = self.hand_over(&key.0, size, used).await?;
                self.done.insert(key, digest);
                digest
            }
        };
        *picture = PictureRef::Digest(digest);
        Ok(())
    }

    async fn hand_over(&mut self, path: &Path, size: PictureSize, used: Use) -> Result<ArtifactDigest> {
        let resize = self.resize;
        let loaded = self.load(path)?;
        let cannot = || format!("the picture {} cannot be used", path.display());
        if !resize && loaded.size() != size {
            return Err(loaded.refuse(size)).with_context(cannot);
        }
        let filter = match used {
            Use::Picture => FilterType::Lanczos3,
            Use::Mask => FilterType::Nearest,
        };
        let prepared = loaded.fit(size, filter).with_context(cannot)?;
        if let Some(note) = &prepared.note {
            self.notes.insert(format!("{}: {note}", path.display()));
        }
        let digest = prepared.digest();
        match &mut self.destination {
            Destination::Farm(farm) => drop(upload::put(farm, &prepared.png).await.with_context(cannot)?),
            Destination::Here(files) => drop(files.insert(digest, prepared)),
        }
        Ok(digest)
    }

    fn load(&mut self, path: &Path) -> Result<&Loaded> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            self.last = Some((path.to_owned(), read(path)?));
        }
        Ok(&self.last.as_ref().expect("it was just put there").1)
    }
}

fn join(folder: &Path, picture: &mut PictureRef) {
    if let PictureRef::Path(path) = picture {
        *path = folder.join(&*path).to_string_lossy().into_owned();
    }
}

/// Pictures of the whole request become the line's, as lines may differ in size.
fn inherit(settings: &mut Settings, job: &Settings) {
    if settings.source.is_none() {
        settings.source.clone_from(&job.source);
    }
    if settings.controls.is_none() {
        settings.controls.clone_from(&job.controls);
    }
}
