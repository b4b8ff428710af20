//! The picture file: PNG with its recipe inside, pixel digests, contact sheets.
//!
//! A file that Seedfarm writes says how it was made, twice: as a canonical recipe that a farm can render
//! again, and as the `parameters` text that A1111-style tools show. What is read is a stranger's file
//! until it is proved: sizes are held against limits before anything is allocated, and what the file
//! claims is compared with what it holds.
//!
//! This crate knows no farm and no engine; it does no IO beyond the bytes that it is given.

mod error;
mod infotext;
mod metadata;
mod picture;
mod read;
mod sheet;
mod write;

pub use error::PictureError;
pub use infotext::infotext;
pub use metadata::{Check, Metadata};
pub use picture::Picture;
pub use read::{decode, decode_source, read_metadata};
pub use sheet::contact_sheet;
pub use write::{Caption, encode, encode_plain};

/// The keywords of the texts in a picture file.
pub mod keyword {
    /// What A1111-style tools read: prompt, negative prompt and a line of settings.
    pub const PARAMETERS: &str = "parameters";
    /// The recipe as canonical JSON (RFC 8785).
    pub const RECIPE: &str = "seedfarm.recipe";
    /// SHA-256 of the recipe, in hexadecimal.
    pub const RECIPE_DIGEST: &str = "seedfarm.recipe_digest";
    /// SHA-256 of the pixels as they were rendered, in hexadecimal.
    pub const PIXEL_DIGEST: &str = "seedfarm.pixel_digest";
    /// The fingerprint of the arithmetic that rendered it, as JSON.
    pub const FINGERPRINT: &str = "seedfarm.fingerprint";
    /// The model's name.
    pub const MODEL: &str = "seedfarm.model";
}
