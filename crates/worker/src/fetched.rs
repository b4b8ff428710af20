//! Models fetched from the farm, on this machine's disk.
//!
//! ```text
//! files/SHA256            files that were verified, each once
//! partial/SHA256          a file in the making; a download goes on where it ends
//! models/DIGEST/…         a package's files under their own names, as hard links
//! packages/DIGEST.json    what it is; written last, so that what has it is whole
//! locks/DIGEST            shared by whoever has it loaded or leased; its time is that of the last use
//! fetching                held by the one process that fetches or makes room
//! ```
//!
//! All workers that name the same folder share it. Every lock is the system's and ends with its process,
//! however that ends; whatever a process leaves half-done is found and finished or removed by the next.

mod download;
mod fault;
mod fetcher;
mod keeping;
mod partial;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use seedfarm_core::{FileDigest, Package, PackageDigest};

pub(crate) use fetcher::Fetcher;

/// Folders below the root.
const FOLDERS: [&str; 5] = ["files", "partial", "models", "packages", "locks"];

/// The folder, and how much of the disk it may take.
#[derive(Debug)]
pub(crate) struct Fetched {
    root: PathBuf,
    limit_bytes: u64,
    /// What the owner's limits leave of the disk.
    allowed_bytes: AtomicU64,
}

/// A package that is whole on this machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) package: Package,
    /// What is opened: its folder, or the file in it.
    pub(crate) path: PathBuf,
}

/// Keeps a package on the disk while it is loaded or leased.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: File,
}

/// The right to change what is there.
#[derive(Debug)]
struct Turn {
    _lock: File,
}

impl Fetched {
    /// Opens the folder and makes it where it is not there.
    pub(crate) fn open(root: PathBuf, limit_bytes: u64) -> io::Result<Self> {
        // Links are made from here, wherever the process stands.
        let root = std::path::absolute(root)?;
        FOLDERS.iter().try_for_each(|folder| fs::create_dir_all(root.join(folder)))?;
        Ok(Self { root, limit_bytes, allowed_bytes: AtomicU64::new(u64::MAX) })
    }

    /// Bytes that it may take.
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes.min(self.allowed_bytes.load(Ordering::Relaxed))
    }

    /// Changes what the owner's limits leave; `None` where they say nothing. Models that are there already
    /// stay until room is needed.
    pub(crate) fn allow(&self, bytes: Option<u64>) {
        self.allowed_bytes.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The digests of all packages that are whole.
    pub(crate) fn digests(&self) -> io::Result<BTreeSet<PackageDigest>> {
        let mut digests = BTreeSet::new();
        for entry in fs::read_dir(self.root.join("packages"))? {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
            digests.extend(stem.and_then(|stem| stem.parse::<PackageDigest>().ok()));
        }
        Ok(digests)
    }

    /// A package that is whole. Nothing is read but sizes: every file was digested before it came here, and
    /// is digested again when the model is loaded.
    pub(crate) fn package(&self, digest: &PackageDigest) -> Option<Kept> {
        let bytes = fs::read(self.description(digest)).ok()?;
        let package: Package = serde_json::from_slice(&bytes).ok()?;
        let folder = self.folder(digest);
        let is_there = |file: &seedfarm_core::PackageFile| {
            fs::metadata(folder.join(file.path.as_str())).is_ok_and(|found| found.len() == file.bytes)
        };
        if package.digest() != *digest || !package.files.iter().all(is_there) {
            tracing::warn!(package.digest = %digest, "a fetched model is incomplete and counts as absent");
            return None;
        }
        let path = package.entry.as_ref().map_or(folder.clone(), |entry| folder.join(entry.as_str()));
        Some(Kept { package, path })
    }

    /// Keeps a package on the disk while the answer lives, and notes that it is used; `None` where it is
    /// not there, or is just leaving.
    pub(crate) fn hold(&self, digest: &PackageDigest) -> io::Result<Option<Hold>> {
        let lock = open_lock(&self.lock(digest))?;
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !self.description(digest).is_file() {
            return Ok(None);
        }
        lock.set_modified(SystemTime::now())?;
        Ok(Some(Hold { _lock: lock }))
    }

    /// A package proved damaged: it counts as absent from now on. Its files are digested again before any
    /// of them is used for it once more.
    pub(crate) fn condemn(&self, digest: &PackageDigest) {
        tracing::error!(package.digest = %digest, "a fetched model is damaged; it is fetched again when it is wanted");
        if let Err(error) = fs::remove_file(self.description(digest)) {
            tracing::warn!(package.digest = %digest, %error, "a damaged model cannot be set aside");
        }
    }

    /// The right to change what is there; `None` while another process has it.
    fn turn(&self) -> io::Result<Option<Turn>> {
        let lock = open_lock(&self.root.join("fetching"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Turn { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn file(&self, sha256: &FileDigest) -> PathBuf {
        self.root.join("files").join(sha256.to_string())
    }

    fn partial(&self, sha256: &FileDigest) -> PathBuf {
        self.root.join("partial").join(sha256.to_string())
    }

    fn folder(&self, digest: &PackageDigest) -> PathBuf {
        self.root.join("models").join(digest.to_string())
    }

    fn description(&self, digest: &PackageDigest) -> PathBuf {
        self.root.join("packages").join(format!("{digest}.json"))
    }

    fn lock(&self, digest: &PackageDigest) -> PathBuf {
        self.root.join("locks").join(digest.to_string())
    }
}

/// Lock files stay: one that is removed could be locked twice.
fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}
