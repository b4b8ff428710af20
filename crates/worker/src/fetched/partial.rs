//! A file in the making: digested as it grows, and complete only as what its name says.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use seedfarm_core::{FileDigest, PackageFile};
use sha2::{Digest as _, Sha256};

use super::Fetched;
use super::fault::{FetchFault, at};
use crate::durable::sync_folder;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// A file that is being fetched.
pub(super) struct Partial {
    path: PathBuf,
    whole: PathBuf,
    sha256: FileDigest,
    bytes: u64,
    file: File,
    done: u64,
    hasher: Sha256,
}

impl Partial {
    /// Begins a file, or takes up what an earlier download left of it.
    pub(super) fn open(fetched: &Fetched, file: &PackageFile) -> Result<Self, FetchFault> {
        let path = fetched.partial(&file.sha256);
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut partial = Self {
            whole: fetched.file(&file.sha256),
            sha256: file.sha256,
            bytes: file.bytes,
            file: open.map_err(at(&path))?,
            path,
            done: 0,
            hasher: Sha256::new(),
        };
        partial.read_what_is_there()?;
        Ok(partial)
    }

    /// How many bytes are there.
    pub(super) const fn done(&self) -> u64 {
        self.done
    }

    /// Whether all bytes are there.
    pub(super) const fn is_complete(&self) -> bool {
        self.done == self.bytes
    }

    /// Adds bytes. When the disk is full, what was begun is removed.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), FetchFault> {
        if self.done + data.len() as u64 > self.bytes {
            self.discard();
            return Err(FetchFault::TooLong { sha256: self.sha256, bytes: self.bytes });
        }
        if let Err(error) = self.file.write_all(data) {
            let fault = at(&self.path)(error);
            if matches!(fault, FetchFault::DiskFull { .. }) {
                self.discard();
            }
            return Err(fault);
        }
        self.hasher.update(data);
        self.done += data.len() as u64;
        Ok(())
    }

    /// Gives the file its place among those that were verified; one that is something else is removed.
    pub(super) fn finish(self) -> Result<(), FetchFault> {
        let actual = FileDigest::from_bytes(self.hasher.clone().finalize().into());
        if actual != self.sha256 {
            self.discard();
            return Err(FetchFault::Damaged { sha256: self.sha256, actual });
        }
        self.file.sync_all().map_err(at(&self.path))?;
        fs::rename(&self.path, &self.whole).map_err(at(&self.whole))?;
        self.whole.parent().map_or(Ok(()), sync_folder).map_err(at(&self.whole))
    }

    /// Digests what an earlier download left; more than there should be is thrown away.
    fn read_what_is_there(&mut self) -> Result<(), FetchFault> {
        let there = self.file.metadata().map_err(at(&self.path))?.len();
        if there > self.bytes {
            return self.file.set_len(0).map_err(at(&self.path));
        }
        let hasher = &mut self.hasher;
        self.done = each_piece(&mut self.file, |piece| hasher.update(piece)).map_err(at(&self.path))?;
        if self.done > 0 {
            tracing::info!(file.digest = %self.sha256, offset = self.done, bytes = self.bytes, "a download goes on where it stopped");
        }
        Ok(())
    }

    fn discard(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished file cannot be removed");
        }
    }
}

/// The SHA-256 of a file.
pub(super) fn sha256_of(path: &Path) -> io::Result<FileDigest> {
    let mut hasher = Sha256::new();
    each_piece(&mut File::open(path)?, |piece| hasher.update(piece))?;
    Ok(FileDigest::from_bytes(hasher.finalize().into()))
}

fn each_piece(file: &mut File, mut see: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(total),
            length => {
                see(&piece[..length]);
                total += length as u64;
            }
        }
    }
}
