//! Files of any size: handed over in parts, put together under their SHA-256, read from any byte on.
//!
//! Never more than two parts are in memory. A part lies under `model-parts/` until its file is whole; what
//! was put together lies under `models/`, apart from pictures, and appears whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, WriteMultipart};
use seedfarm_core::limits::MODEL_PART_BYTES;
use seedfarm_core::{FileDigest, package};
use sha2::{Digest as _, Sha256};

use crate::error::BlobError;
use crate::store::Stored;

/// Whole files.
const WHOLE: &str = "models";
/// Parts of files that are not whole.
const PARTS: &str = "model-parts";

/// What a second look at a stored file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soundness {
    /// It is what its digest says.
    Sound,
    /// It is something else.
    Damaged {
        /// What it is.
        actual: FileDigest,
    },
    /// It is not there.
    Missing,
}

/// A store of files under their SHA-256. Clones share it.
#[derive(Debug, Clone)]
pub struct FileStore {
    store: Arc<dyn ObjectStore>,
    location: Arc<str>,
}

impl FileStore {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, location: Arc<str>) -> Self {
        Self { store, location }
    }

    /// The size in bytes of a whole file. It is not read, so it may be damaged.
    pub async fn size(&self, digest: &FileDigest) -> Result<Option<u64>, BlobError> {
        match self.store.head(&whole(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// The parts, from 0, of a file of `bytes` that are there in their full size.
    pub async fn parts(&self, digest: &FileDigest, bytes: u64) -> Result<BTreeSet<u64>, BlobError> {
        let mut listed = self.store.list(Some(&parts_of(digest)));
        let mut parts = BTreeSet::new();
        while let Some(found) = listed.try_next().await.map_err(|error| self.fault(error))? {
            let number = found.location.filename().and_then(|name| name.parse().ok());
            parts.extend(number.filter(|&part| found.size == package::part_bytes(bytes, part)));
        }
        Ok(parts)
    }

    /// Keeps part `part` (from 0) of a file; the same part again replaces it.
    pub async fn put_part(&self, digest: &FileDigest, part: u64, bytes: Bytes) -> Result<(), BlobError> {
        let name = part_name(digest, part);
        self.store.put(&name, bytes.into()).await.map(drop).map_err(|error| self.fault(error))
    }

    /// Puts a file of `bytes` together from its parts and makes sure that it is what `digest` says; `told`
    /// hears how many bytes are done. The parts are gone afterwards, as they are when they prove wrong.
    ///
    /// # Errors
    /// [`BlobError::PartMissing`], [`BlobError::FileMismatch`], and what the place says.
    pub async fn seal(
        &self,
        digest: &FileDigest,
        bytes: u64,
        mut told: impl FnMut(u64),
    ) -> Result<Stored, BlobError> {
        if self.size(digest).await? == Some(bytes) {
            self.drop_parts(digest).await?;
            return Ok(Stored::Known);
        }
        let upload = self.store.put_multipart(&whole(digest)).await.map_err(|error| self.fault(error))?;
        let mut file = WriteMultipart::new_with_chunk_size(upload, size_in_memory());
        let mut hasher = Sha256::new();
        let mut done = 0;
        for part in 0..package::parts(bytes) {
            let Some(data) = self.part(digest, part, bytes).await? else {
                self.give_up(file).await;
                return Err(BlobError::PartMissing { digest: *digest, part });
            };
            hasher.update(&data);
            done += data.len() as u64;
            file.wait_for_capacity(1).await.map_err(|error| self.fault(error))?;
            file.put(data);
            told(done);
        }
        let actual = FileDigest::from_bytes(hasher.finalize().into());
        if actual != *digest {
            self.give_up(file).await;
            self.drop_parts(digest).await?;
            return Err(BlobError::FileMismatch { claimed: *digest, actual });
        }
        file.finish().await.map_err(|error| self.fault(error))?;
        self.drop_parts(digest).await?;
        Ok(Stored::New)
    }

    /// The bytes of a whole file from `offset` on, unchecked, in pieces as the place gives them; `None` when
    /// it is not there. Nothing follows where the file ends before.
    pub async fn read(
        &self,
        digest: &FileDigest,
        offset: u64,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, BlobError>>>, BlobError> {
        match self.size(digest).await? {
            None => return Ok(None),
            Some(bytes) if offset >= bytes => return Ok(Some(futures::stream::empty().boxed())),
            Some(_) => {}
        }
        let options = GetOptions { range: Some(GetRange::Offset(offset)), ..GetOptions::default() };
        let found = match self.store.get_opts(&whole(digest), options).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        };
        let location = Arc::clone(&self.location);
        let pieces = found.into_stream().map_err(move |error| BlobError::of(&location, error));
        Ok(Some(pieces.boxed()))
    }

    /// Reads a whole file and compares; `told` hears how many bytes are done.
    pub async fn verify(
        &self,
        digest: &FileDigest,
        mut told: impl FnMut(u64),
    ) -> Result<Soundness, BlobError> {
        let Some(mut pieces) = self.read(digest, 0).await? else { return Ok(Soundness::Missing) };
        let mut hasher = Sha256::new();
        let mut done = 0;
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
            done += piece.len() as u64;
            told(done);
        }
        let actual = FileDigest::from_bytes(hasher.finalize().into());
        Ok(if actual == *digest { Soundness::Sound } else { Soundness::Damaged { actual } })
    }

    /// Removes a whole file; one that is not there is no fault.
    pub async fn remove(&self, digest: &FileDigest) -> Result<(), BlobError> {
        self.delete(&whole(digest)).await
    }

    /// Removes parts that nobody added to since `since`; says how many.
    pub async fn sweep(&self, since: SystemTime) -> Result<usize, BlobError> {
        let listed = self.store.list(Some(&Path::from(PARTS)));
        let old = |found: &object_store::ObjectMeta| SystemTime::from(found.last_modified) < since;
        let old = listed.try_filter(|found| std::future::ready(old(found)));
        let old: Vec<_> = old.try_collect().await.map_err(|error| self.fault(error))?;
        for found in &old {
            self.delete(&found.location).await?;
        }
        Ok(old.len())
    }

    /// One part in its full size; `None` where it is not there so.
    async fn part(&self, digest: &FileDigest, part: u64, bytes: u64) -> Result<Option<Bytes>, BlobError> {
        let data = match self.store.get(&part_name(digest, part)).await {
            Ok(found) => found.bytes().await.map_err(|error| self.fault(error))?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        };
        Ok(Some(data).filter(|data| data.len() as u64 == package::part_bytes(bytes, part)))
    }

    async fn drop_parts(&self, digest: &FileDigest) -> Result<(), BlobError> {
        let listed: Vec<_> = self
            .store
            .list(Some(&parts_of(digest)))
            .try_collect()
            .await
            .map_err(|error| self.fault(error))?;
        for found in listed {
            self.delete(&found.location).await?;
        }
        Ok(())
    }

    async fn delete(&self, path: &Path) -> Result<(), BlobError> {
        match self.store.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Takes back what was written of a file that is none.
    async fn give_up(&self, file: WriteMultipart) {
        if let Err(error) = file.abort().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                location = &*self.location,
                "what was begun of a file could not be taken back"
            );
        }
    }

    fn fault(&self, error: Error) -> BlobError {
        BlobError::of(&self.location, error)
    }
}

fn size_in_memory() -> usize {
    usize::try_from(MODEL_PART_BYTES).unwrap_or(usize::MAX)
}

/// `models/ab/abcd…`: models are few.
fn whole(digest: &FileDigest) -> Path {
    let hex = digest.to_string();
    Path::from_iter([WHOLE, &hex[..2], &hex])
}

fn parts_of(digest: &FileDigest) -> Path {
    Path::from_iter([PARTS, &digest.to_string()])
}

fn part_name(digest: &FileDigest, part: u64) -> Path {
    Path::from_iter([PARTS, &digest.to_string(), &part.to_string()])
}
