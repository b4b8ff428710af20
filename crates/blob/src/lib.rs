//! Content-addressed bytes: put and get by SHA-256 on a local folder or an S3-compatible bucket.
//!
//! Bytes lie under the digest of what they are, so a put can be repeated, no name is ever taken by
//! something else, and what comes back is checked. This crate knows no job and no picture.

mod error;
mod location;
mod store;

pub use error::BlobError;
pub use location::BlobLocation;
pub use store::{Blob, Stored};
