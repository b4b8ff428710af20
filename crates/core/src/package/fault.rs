//! What can be wrong with a package.

use super::PackagePath;
use crate::digest::FileDigest;
use crate::limits;

/// A package that is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageFault {
    /// A path that must not reach a disk.
    #[error(
        "the path '{given}' {reason}: rename the file; letters, digits and . _ - + = @ ( ) and spaces are allowed, in \
         up to {depth} names of {bytes} bytes in all",
        depth = limits::MAX_MODEL_PATH_DEPTH, bytes = limits::MAX_MODEL_PATH_BYTES
    )]
    BadPath {
        /// What was given, cut where it is long.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that can run code when it is read.
    #[error("'{given}' is a pickle, which can run code when it is read: convert the model to .safetensors")]
    Pickle {
        /// Its path.
        given: String,
    },
    /// A name or another text that cannot be stored.
    #[error(
        "the {field} has {bytes} bytes, is empty or holds control characters: up to {most} bytes of plain text are \
         allowed", most = limits::MAX_NAME_BYTES
    )]
    BadText {
        /// Which text.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A model that is made of nothing.
    #[error("the model's manifest names no component")]
    NoComponents,
    /// No file at all.
    #[error("the model has no file")]
    NoFiles,
    /// Too many files.
    #[error("the model has {given} files, more than the limit of {most}", most = limits::MAX_PACKAGE_FILES)]
    TooManyFiles {
        /// How many.
        given: usize,
    },
    /// A file is too large.
    #[error(
        "'{path}' has {bytes} bytes, more than the limit of {most}: save the model in several files",
        most = limits::MAX_MODEL_FILE_BYTES
    )]
    FileTooLarge {
        /// The file.
        path: PackagePath,
        /// Its size.
        bytes: u64,
    },
    /// All files together are too large.
    #[error("the model has {bytes} bytes, more than the limit of {most}", most = limits::MAX_PACKAGE_BYTES)]
    TooLarge {
        /// Their size.
        bytes: u64,
    },
    /// One digest with two sizes.
    #[error("the file {sha256} is listed with two sizes: digest the files again")]
    TwoSizes {
        /// Its digest.
        sha256: FileDigest,
    },
    /// Two files in one place.
    #[error("'{path}' is there twice, if the case of letters does not count: rename one of the two")]
    TwiceThere {
        /// The place.
        path: PackagePath,
    },
    /// A file that would lie inside another file.
    #[error("'{path}' would lie inside another file of the model")]
    InsideAFile {
        /// The file.
        path: PackagePath,
    },
    /// What should be opened is not there.
    #[error("'{path}', which is to be opened, is not among the model's files")]
    NoEntry {
        /// What should be opened.
        path: PackagePath,
    },
}
