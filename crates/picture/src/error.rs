//! What can be wrong with a picture.

use seedfarm_core::limits;

/// A picture that cannot be read, written or put together.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The buffer does not fit the size.
    #[error("a picture of {width} x {height} pixels needs {expected} bytes of RGB, and {given} were given")]
    WrongLength {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Three bytes a pixel.
        expected: u64,
        /// Bytes that were given.
        given: usize,
    },
    /// A side is 0 or too large.
    #[error("{width} x {height} pixels are outside 1 to {most} a side", most = limits::MAX_SIDE)]
    SideOutOfRange {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The file is too large.
    #[error("the file has {given} bytes, more than the limit of {most}", most = limits::MAX_ARTIFACT_BYTES)]
    FileTooLarge {
        /// Its size.
        given: usize,
    },
    /// The texts in the file are too large.
    #[error("the texts in the file unpack to more than the limit of {limit} bytes: strip its metadata")]
    TextTooLarge {
        /// The limit, for all texts together.
        limit: usize,
    },
    /// A packed text that does not unpack, or not within the limit.
    #[error(
        "the packed text '{keyword}' is damaged or unpacks to more than the limit of {limit} bytes for all texts: strip the file's metadata"
    )]
    PackedText {
        /// Its keyword.
        keyword: String,
        /// The limit.
        limit: usize,
        /// What the decoder says.
        source: png::DecodingError,
    },
    /// A text of ours stands in the file twice, so it is not clear which one counts.
    #[error("the file holds the text '{keyword}' twice: it was put together from several files")]
    TextTwice {
        /// Its keyword.
        keyword: String,
    },
    /// The file is no PNG at all.
    #[error("the file is not a PNG: its first bytes are not the PNG signature")]
    NotPng,
    /// The file is damaged, cut off, or breaks the PNG specification.
    #[error("the file is not a whole PNG: it is damaged or cut off; fetch it again")]
    Damaged(#[source] png::DecodingError),
    /// A palette that is no list of colours.
    #[error(
        "the file's palette has {bytes} bytes, not 3 for each of 1 to 256 colours: the file is damaged; fetch it again"
    )]
    Palette {
        /// Its length.
        bytes: usize,
    },
    /// The pixels cannot be had as RGB with 8 bits a channel without losing something.
    #[error("the picture has {what}, which 8-bit RGB cannot hold: save it as RGB with 8 bits a channel")]
    NotRgb8 {
        /// What cannot be held.
        what: &'static str,
    },
    /// The encoder refused.
    #[error("the picture cannot be encoded as PNG")]
    Encode(#[from] png::EncodingError),
    /// A contact sheet of nothing.
    #[error("a contact sheet needs at least one picture")]
    EmptySheet,
    /// Too many pictures for one contact sheet.
    #[error("{given} pictures are more than the {most} that one contact sheet can show")]
    SheetTooLarge {
        /// How many were given.
        given: usize,
        /// The limit.
        most: usize,
    },
}
