//! Making room: core decides what leaves; here it leaves, if nobody takes it up meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, TryLockError};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use seedfarm_core::distribution::{Shelved, make_room};
use seedfarm_core::{FileDigest, Package, PackageDigest, PackageFile};

use super::fault::{FetchFault, at};
use super::{Fetched, Turn, open_lock};

impl Fetched {
    /// Makes room for a package and removes what belongs to none. What is in use stays.
    pub(super) fn make_room(&self, _turn: &Turn, wanted: &Package) -> Result<(), FetchFault> {
        let shelved = self.shelved(&wanted.digest()).map_err(at(&self.root))?;
        let files = sizes(&wanted.files);
        for digest in make_room(&shelved, &files, self.limit_bytes()).map_err(FetchFault::NoRoom)? {
            self.evict(&digest).map_err(at(&self.root))?;
        }
        let kept = self.digests().map_err(at(&self.root))?;
        let kept = kept.iter().filter_map(|digest| self.package(digest));
        let mut needed: BTreeSet<FileDigest> =
            kept.flat_map(|kept| kept.package.files).map(|file| file.sha256).collect();
        needed.extend(files.keys());
        self.remove_strays(&needed, &files.into_keys().collect()).map_err(at(&self.root))
    }

    /// What is there besides `wanted`.
    fn shelved(&self, wanted: &PackageDigest) -> io::Result<Vec<Shelved>> {
        let mut shelved = Vec::new();
        for digest in self.digests()?.into_iter().filter(|digest| digest != wanted) {
            let Some(kept) = self.package(&digest) else { continue };
            let lock = open_lock(&self.lock(&digest))?;
            let used = lock.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            shelved.push(Shelved {
                package: digest,
                files: sizes(&kept.package.files),
                used_at_ms: u64::try_from(used.as_millis()).unwrap_or(u64::MAX),
                in_use: matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            });
        }
        Ok(shelved)
    }

    /// Removes a package, first what makes it whole. One that was taken up a moment ago stays.
    fn evict(&self, digest: &PackageDigest) -> io::Result<()> {
        let lock = open_lock(&self.lock(digest))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        tracing::info!(package.digest = %digest, "a fetched model leaves to make room");
        fs::remove_file(self.description(digest))?;
        fs::remove_dir_all(self.folder(digest))
    }

    /// Removes files and unfinished files that nobody needs, and folders of packages that are not whole.
    fn remove_strays(&self, files: &BTreeSet<FileDigest>, partial: &BTreeSet<FileDigest>) -> io::Result<()> {
        let named = |set: &BTreeSet<FileDigest>, name: &OsStr| {
            let digest = name.to_str().and_then(|name| name.parse().ok());
            digest.is_some_and(|digest| set.contains(&digest))
        };
        remove_others(&self.root.join("files"), |name| named(files, name))?;
        remove_others(&self.root.join("partial"), |name| named(partial, name))?;
        let whole = self.digests()?;
        remove_others(&self.root.join("models"), |name| {
            let digest = name.to_str().and_then(|name| name.parse().ok());
            digest.is_some_and(|digest: PackageDigest| whole.contains(&digest))
        })
    }
}

fn sizes(files: &[PackageFile]) -> BTreeMap<FileDigest, u64> {
    files.iter().map(|file| (file.sha256, file.bytes)).collect()
}

fn remove_others(folder: &Path, stays: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if stays(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
