//! Put and get.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use seedfarm_core::ArtifactDigest;

use crate::error::BlobError;
use crate::files::FileStore;
use crate::location::BlobLocation;

/// Whether a put stored anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The bytes were not there before.
    New,
    /// The bytes were there already.
    Known,
}

/// A store of bytes under their SHA-256. Clones share it.
#[derive(Debug, Clone)]
pub struct Blob {
    store: Arc<dyn ObjectStore>,
    location: Arc<str>,
    local: bool,
}

impl Blob {
    /// Opens the place, makes its folder where it is one, and makes sure that it can be written to.
    ///
    /// On a folder every put is synced to the disk before it is acknowledged, and appears whole or not
    /// at all. On a bucket every call is tried again for half a minute.
    pub async fn open(location: &BlobLocation) -> Result<Self, BlobError> {
        let store = match location {
            BlobLocation::Folder(path) => open_folder(path)?,
            BlobLocation::S3 { bucket, prefix } => open_bucket(location, bucket, prefix)?,
        };
        let local = matches!(location, BlobLocation::Folder(_));
        let blob = Self { store, location: location.to_string().into(), local };
        blob.probe().await?;
        Ok(blob)
    }

    /// Files of any size in the same place.
    pub fn files(&self) -> FileStore {
        FileStore::new(Arc::clone(&self.store), Arc::clone(&self.location))
    }

    /// Where the bytes lie, for people.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Stores `bytes` under `digest`, which must be theirs.
    pub async fn put(&self, digest: &ArtifactDigest, bytes: Bytes) -> Result<Stored, BlobError> {
        let actual = ArtifactDigest::of_bytes(&bytes);
        if actual != *digest {
            return Err(BlobError::DigestMismatch { claimed: *digest, actual });
        }
        if self.holds(digest, bytes.len()).await? {
            return Ok(Stored::Known);
        }
        self.store.put(&name(digest), bytes.into()).await.map_err(|error| self.fault(error))?;
        Ok(Stored::New)
    }

    /// The bytes under `digest`, checked; `None` when they are not there or not what they should be.
    pub async fn get(&self, digest: &ArtifactDigest) -> Result<Option<Bytes>, BlobError> {
        let bytes = match self.store.get(&name(digest)).await {
            Ok(found) => found.bytes().await.map_err(|error| self.fault(error))?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        };
        let actual = ArtifactDigest::of_bytes(&bytes);
        if actual == *digest {
            return Ok(Some(bytes));
        }
        tracing::warn!(
            artifact.digest = %digest, actual.digest = %actual, bytes = bytes.len(),
            "a stored file is damaged and counts as absent until it is stored again"
        );
        Ok(None)
    }

    /// Whether something lies under `digest`. It is not read, so it may be damaged.
    pub async fn contains(&self, digest: &ArtifactDigest) -> Result<bool, BlobError> {
        Ok(self.size(digest).await?.is_some())
    }

    /// Whether a put can be spared. A folder's file is read, so that a put mends a damaged one; a bucket
    /// keeps checksums of its own, and the size must do.
    async fn holds(&self, digest: &ArtifactDigest, bytes: usize) -> Result<bool, BlobError> {
        if self.size(digest).await? != Some(bytes as u64) {
            return Ok(false);
        }
        Ok(!self.local || self.get(digest).await?.is_some())
    }

    /// The size in bytes of what lies under `digest`. It is not read, so it may be damaged.
    pub async fn size(&self, digest: &ArtifactDigest) -> Result<Option<u64>, BlobError> {
        match self.store.head(&name(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Writes and removes a small file, so that a place that cannot be used is known at once.
    async fn probe(&self) -> Result<(), BlobError> {
        let probe = Path::from("write-test");
        let written = self.store.put(&probe, Bytes::from_static(b"seedfarm").into()).await;
        written.map_err(|error| self.fault(error))?;
        match self.store.delete(&probe).await {
            Ok(()) | Err(Error::NotFound { .. } | Error::PermissionDenied { .. }) => Ok(()),
            Err(error) => Err(self.fault(error)),
        }
    }

    fn fault(&self, error: Error) -> BlobError {
        BlobError::of(&self.location, error)
    }
}

/// `ab/cd/abcd…`: two levels of folders keep each one short for a hundred million files.
fn name(digest: &ArtifactDigest) -> Path {
    let hex = digest.to_string();
    Path::from_iter([&hex[..2], &hex[2..4], &hex])
}

fn open_folder(path: &FilePath) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let location = path.display().to_string();
    std::fs::create_dir_all(path).map_err(|error| BlobError::of(&location, error))?;
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| BlobError::of(&location, error))?;
    Ok(Arc::new(store.with_fsync(true)))
}

#[cfg(not(feature = "s3"))]
fn open_bucket(
    location: &BlobLocation,
    _bucket: &str,
    _prefix: &str,
) -> Result<Arc<dyn ObjectStore>, BlobError> {
    Err(BlobError::WithoutS3 { given: location.to_string() })
}

#[cfg(feature = "s3")]
fn open_bucket(
    location: &BlobLocation,
    bucket: &str,
    prefix: &str,
) -> Result<Arc<dyn ObjectStore>, BlobError> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::prefix::PrefixStore;

    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries());
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let store = builder.build().map_err(|error| BlobError::of(&location.to_string(), error))?;
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

#[cfg(feature = "s3")]
fn retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 5,
        retry_timeout: std::time::Duration::from_secs(30),
        ..object_store::RetryConfig::default()
    }
}
