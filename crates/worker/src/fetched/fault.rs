//! Why a package cannot be fetched.

use std::io;
use std::path::{Path, PathBuf};

use seedfarm_core::distribution::NoRoom;
use seedfarm_core::package::PackageFault;
use seedfarm_core::{FileDigest, PackageDigest};

/// A package that cannot be fetched now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchFault {
    /// The farm does not give it.
    #[error("the farm does not give it: {}", .0.message())]
    Farm(Box<tonic::Status>),
    /// What the farm says of it cannot be read.
    #[error("what the farm says of it cannot be read: {0}")]
    Unreadable(String),
    /// What the farm says of it must not reach the disk.
    #[error("it is refused")]
    Refused(#[source] PackageFault),
    /// The owner does not want it.
    #[error("the worker's owner refuses the model '{0}'")]
    Unwanted(String),
    /// It does not fit.
    #[error("it does not fit")]
    NoRoom(#[source] NoRoom),
    /// A file is not what it should be.
    #[error(
        "the farm's file {sha256} is damaged: it has the SHA-256 {actual}; `seedfarm models verify --farm` finds it, \
         adding the model again mends it"
    )]
    Damaged {
        /// What it should be.
        sha256: FileDigest,
        /// What it is.
        actual: FileDigest,
    },
    /// A file does not end where it should.
    #[error("the farm's file {sha256} has more than its {bytes} bytes")]
    TooLong {
        /// Its digest.
        sha256: FileDigest,
        /// How many it should have.
        bytes: u64,
    },
    /// The files are not the model that they were added as.
    #[error("its files are not {wanted}, as which they were added, but {found}")]
    OtherModel {
        /// What it was added as.
        wanted: PackageDigest,
        /// What they are.
        found: String,
    },
    /// The disk is full.
    #[error(
        "no space is left in {}: free some, or lower the limit of the model cache; what was begun is removed",
        path.display()
    )]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// The disk cannot be used.
    #[error("cannot use {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
}

impl From<tonic::Status> for FetchFault {
    fn from(status: tonic::Status) -> Self {
        Self::Farm(Box::new(status))
    }
}

/// Names the file or folder in an error of the system.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> FetchFault + '_ {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            FetchFault::DiskFull { path: path.to_owned(), source }
        }
        _ => FetchFault::Disk { path: path.to_owned(), source },
    }
}
