//! What can go wrong with stored bytes.

use std::error::Error;
use std::io;

use seedfarm_core::{ArtifactDigest, FileDigest};

/// Bytes that cannot be stored or fetched.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The location is in no form that is known.
    #[error("'{given}' is no place to store pictures: give a folder or s3://bucket/prefix")]
    UnknownLocation {
        /// What was given.
        given: String,
    },
    /// This program was built without S3.
    #[error(
        "'{given}' needs S3, which this program was built without: build it with cargo build --release --features s3"
    )]
    WithoutS3 {
        /// What was given.
        given: String,
    },
    /// The bytes are not those that the digest names.
    #[error(
        "the bytes have the SHA-256 {actual}, not {claimed}: they were damaged on the way; send them again"
    )]
    DigestMismatch {
        /// What they were said to be.
        claimed: ArtifactDigest,
        /// What they are.
        actual: ArtifactDigest,
    },
    /// A file's parts, put together, are not what its digest names.
    #[error("the file has the SHA-256 {actual}, not {claimed}: it was damaged on the way; send it again")]
    FileMismatch {
        /// What it was said to be.
        claimed: FileDigest,
        /// What it is.
        actual: FileDigest,
    },
    /// A file cannot be put together yet.
    #[error("part {part} of the file {digest} is not there: send it first")]
    PartMissing {
        /// The file.
        digest: FileDigest,
        /// The part, from 0.
        part: u64,
    },
    /// No space is left.
    #[error("no space is left in {location}: free some, or choose another place for pictures")]
    Full {
        /// Where.
        location: String,
        /// The system's or the store's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Reading or writing is not permitted.
    #[error("{location} may not be read or written: give this program's user access to it")]
    Forbidden {
        /// Where.
        location: String,
        /// The system's or the store's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Anything else that the store says.
    #[error("{location} cannot be used")]
    Unavailable {
        /// Where.
        location: String,
        /// The system's or the store's own words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl BlobError {
    /// Whether trying again later may help, without anything being mended here.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }

    /// Sorts an error of the system or the store by what a person can do about it.
    pub(crate) fn of(location: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (location, source) = (location.to_owned(), source.into());
        match io_kind(source.as_ref()) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Self::Full { location, source }
            }
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                Self::Forbidden { location, source }
            }
            _ if is_refusal(source.as_ref()) => Self::Forbidden { location, source },
            _ => Self::Unavailable { location, source },
        }
    }
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    matches!(error.downcast_ref(), Some(PermissionDenied { .. } | Unauthenticated { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(kind: io::ErrorKind) -> BlobError {
        let source = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(kind)),
        };
        BlobError::of("/data/blobs", source)
    }

    #[test]
    fn a_full_disk_and_a_locked_folder_are_told_apart_and_named() {
        let full = generic(io::ErrorKind::StorageFull);
        assert!(matches!(full, BlobError::Full { .. }) && full.is_transient());
        assert!(full.to_string().contains("no space is left in /data/blobs"), "{full}");
        let locked = generic(io::ErrorKind::PermissionDenied);
        assert!(matches!(locked, BlobError::Forbidden { .. }) && !locked.is_transient());
        assert!(matches!(generic(io::ErrorKind::TimedOut), BlobError::Unavailable { .. }));
    }
}
