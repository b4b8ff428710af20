//! Finished pictures on disk until the coordinator has stored them: a folder a lease.
//!
//! ```text
//! outbox/<epoch>-<lease>-<attempt>/lease.json            job and fingerprint; without it the rest is void
//!                                  <index>-<ms>.png      one picture and how long it took
//!                                  <index>-<ms>.json     what to know of the picture, where there is something
//!                                  end.json              rendering is over, and why if not all is there
//! ```
//!
//! Every file appears whole or not at all. A picture says itself what it is (recipe and pixel digest), so
//! what a process that was killed left behind is read back and delivered; a lease without `end.json` was
//! cut short and is handed back with what it has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::{ArtifactDigest, Attempt, Epoch, LeaseId, PixelDigest, RecipeDigest};
use seedfarm_picture::Check;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::renderer::Fault;

const LEASE_FILE: &str = "lease.json";
const END_FILE: &str = "end.json";

/// The folder. Shared by all devices' store threads and the uploads.
#[derive(Debug)]
pub(crate) struct Outbox {
    root: PathBuf,
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
}

/// Why a picture could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    /// The limit is reached: deliveries are far behind.
    #[error("the outbox {} holds {used} bytes, and {more} more pass its limit of {limit}", path.display())]
    Full { path: PathBuf, used: u64, more: u64, limit: u64 },
    /// The disk is full or refuses.
    #[error("cannot write to the outbox {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What all pictures of a lease share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseNote {
    /// The job, as it stands in the grant.
    pub job: String,
    /// How they were rendered, as JSON.
    pub fingerprint_json: String,
}

/// How a lease ended.
#[derive(Debug, Serialize, Deserialize)]
struct EndNote {
    fault: Option<(FailureClass, String)>,
}

/// One picture in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredImage {
    pub index: u64,
    pub recipe: RecipeDigest,
    pub pixels: PixelDigest,
    pub artifact: ArtifactDigest,
    pub bytes: u64,
    pub duration_ms: u64,
    /// What whoever asked for it should know.
    pub warnings: Vec<String>,
}

/// What an earlier process left of a lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub fence: Fence,
    pub note: LeaseNote,
    pub images: Vec<StoredImage>,
    pub fault: Option<Fault>,
}

impl Outbox {
    /// Opens the folder, and makes it where it is not there.
    pub(crate) fn open(root: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root, limit_bytes: AtomicU64::new(limit_bytes), used_bytes: AtomicU64::new(0) })
    }

    /// Changes how much may lie here. What lies here already stays.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Keeps one picture file. Once this returns, a killed process loses it no more.
    pub(crate) fn keep(
        &self,
        fence: &Fence,
        note: &LeaseNote,
        image: &StoredImage,
        file: &[u8],
    ) -> Result<(), OutboxError> {
        let (used, more) = (self.used_bytes.load(Ordering::Relaxed), file.len() as u64);
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        if used.saturating_add(more) > limit {
            return Err(OutboxError::Full { path: self.root.clone(), used, more, limit });
        }
        let folder = self.folder(fence);
        self.write_note(&folder, note)
            .and_then(|()| write_warnings(&folder, image))
            .and_then(|()| durable::write(&folder.join(file_name(image)), file))
            .map_err(|source| OutboxError::Io { path: folder, source })?;
        self.used_bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that rendering of a lease is over. Without any picture there is nothing to keep.
    pub(crate) fn end(&self, fence: &Fence, fault: Option<&Fault>) -> Result<(), OutboxError> {
        let folder = self.folder(fence);
        if !folder.join(LEASE_FILE).exists() {
            return Ok(());
        }
        let fault = fault.map(|fault| (fault.class, fault.error.clone()));
        durable::write(&folder.join(END_FILE), &json(&EndNote { fault }))
            .map_err(|source| OutboxError::Io { path: folder, source })
    }

    /// The file of a picture.
    pub(crate) fn read(&self, fence: &Fence, image: &StoredImage) -> io::Result<Vec<u8>> {
        fs::read(self.folder(fence).join(file_name(image)))
    }

    /// Forgets a lease and its pictures: the coordinator has stored them.
    ///
    /// The note goes first, so that a removal that is cut short leaves nothing that counts.
    pub(crate) fn forget(&self, fence: &Fence) -> io::Result<()> {
        let folder = self.folder(fence);
        let held = bytes_in(&folder);
        match fs::remove_file(folder.join(LEASE_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.used_bytes.fetch_sub(held, Ordering::Relaxed);
        Ok(())
    }

    /// What earlier processes left, in the order of their leases. Remains that cannot be delivered are
    /// removed, with a warning where that loses a picture.
    pub(crate) fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let folder = entry?.path();
            match read_leftover(&folder) {
                Some(leftover) => {
                    self.used_bytes.fetch_add(bytes_in(&folder), Ordering::Relaxed);
                    leftovers.push(leftover);
                }
                None => remove_remains(&folder),
            }
        }
        leftovers.sort_by_key(|leftover| (leftover.fence.epoch, leftover.fence.lease));
        Ok(leftovers)
    }

    fn write_note(&self, folder: &Path, note: &LeaseNote) -> io::Result<()> {
        let path = folder.join(LEASE_FILE);
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        durable::sync_folder(&self.root)?;
        durable::write(&path, &json(note))
    }

    fn folder(&self, fence: &Fence) -> PathBuf {
        self.root.join(format!("{}-{}-{}", fence.epoch, fence.lease, fence.attempt))
    }
}

/// Keeps what there is to know of a picture: before the picture, so that none is found without it.
fn write_warnings(folder: &Path, image: &StoredImage) -> io::Result<()> {
    if image.warnings.is_empty() {
        return Ok(());
    }
    durable::write(&folder.join(file_name(image)).with_extension("json"), &json(&image.warnings))
}

/// What was kept with a picture; nothing where there was nothing to know.
fn read_warnings(picture: &Path) -> Vec<String> {
    let kept = fs::read(picture.with_extension("json")).ok();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("notes have string keys and no floats")
}

fn file_name(image: &StoredImage) -> String {
    format!("{}-{}.png", image.index, image.duration_ms)
}

/// Bytes of the pictures in a folder, 0 where there is none.
fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let pictures = files.filter(|file| file.file_name().to_string_lossy().ends_with(".png"));
    pictures.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

fn remove_remains(path: &Path) {
    let lost = bytes_in(path);
    if lost > 0 {
        tracing::warn!(path = %path.display(), bytes = lost, "pictures of an unknown lease are removed");
    }
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "remains in the outbox cannot be removed");
    }
}

fn read_leftover(folder: &Path) -> Option<Leftover> {
    let fence = read_fence(folder.file_name()?.to_str()?)?;
    let note = serde_json::from_slice(&fs::read(folder.join(LEASE_FILE)).ok()?).ok()?;
    let mut images: Vec<StoredImage> =
        fs::read_dir(folder).ok()?.flatten().filter_map(|file| read_image(&file.path())).collect();
    images.sort_by_key(|image| image.index);
    Some(Leftover { fence, note, images, fault: read_end(folder) })
}

fn read_fence(name: &str) -> Option<Fence> {
    let mut numbers = name.split('-');
    let fence = Fence {
        epoch: Epoch(numbers.next()?.parse().ok()?),
        lease: LeaseId(numbers.next()?.parse().ok()?),
        attempt: Attempt(numbers.next()?.parse().ok()?),
    };
    numbers.next().is_none().then_some(fence)
}

fn read_end(folder: &Path) -> Option<Fault> {
    let note = fs::read(folder.join(END_FILE)).ok();
    match note.and_then(|bytes| serde_json::from_slice::<EndNote>(&bytes).ok()) {
        Some(note) => note.fault.map(|(class, error)| Fault { class, error }),
        None => Some(Fault::new(FailureClass::HandedBack, "the worker ended before the lease did")),
    }
}

/// A picture that an earlier process kept, if it is whole and what it says it is.
fn read_image(path: &Path) -> Option<StoredImage> {
    let (index, duration_ms) = path.file_name()?.to_str()?.strip_suffix(".png")?.split_once('-')?;
    let file = fs::read(path).ok()?;
    let metadata = seedfarm_picture::read_metadata(&file).ok()?;
    if metadata.pixels != Check::Matches || metadata.recipe_check != Check::Matches {
        tracing::warn!(path = %path.display(), "a picture in the outbox is damaged and is left out");
        return None;
    }
    Some(StoredImage {
        index: index.parse().ok()?,
        duration_ms: duration_ms.parse().ok()?,
        recipe: metadata.recipe_digest?,
        pixels: metadata.pixel_digest?,
        artifact: ArtifactDigest::of_bytes(&file),
        bytes: file.len() as u64,
        warnings: read_warnings(path),
    })
}

#[cfg(test)]
mod tests;
