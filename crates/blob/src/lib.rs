//! Content-addressed bytes: put and get by SHA-256 on a local folder or an S3-compatible bucket.
//!
//! Bytes lie under the digest of what they are, so a put can be repeated, no name is ever taken by
//! something else, and what comes back is checked. This crate knows no job and no picture.
//!
//! [`Blob`] holds what fits into memory whole, [`FileStore`] files of any size, in a place of their own.

mod error;
mod files;
mod location;
mod store;

pub use error::BlobError;
pub use files::{FileStore, Soundness};
pub use location::BlobLocation;
pub use store::{Blob, Stored};
