//! Reading PNG files, a stranger's as well as our own.

use std::io::Cursor;

use png::{
    BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Info, Limits, OutputInfo, Reader,
    Transformations,
};
use seedfarm_core::limits;

use crate::error::PictureError;
use crate::metadata::{Metadata, Texts};
use crate::picture::{Picture, check_sides};

/// Most bytes of all texts in one file, unpacked: a ComfyUI workflow takes a few hundred thousand.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// Most bytes that the decoder may hold besides the pixels: twice the texts, packed and unpacked.
const MAX_CHUNK_BYTES: usize = 2 * MAX_TEXT_BYTES;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];

/// Reads the pixels. Grey, palette and opaque RGBA pictures are widened to RGB; anything that 8-bit RGB
/// cannot hold is refused.
pub fn decode(file: &[u8]) -> Result<Picture, PictureError> {
    let mut reader = open(file, Transformations::EXPAND)?;
    let picture = pixels(&mut reader)?;
    reader.finish().map_err(damaged)?;
    Ok(picture)
}

/// Reads the pixels of a picture that an image is to start from, as other tools read them: of 16 bits a
/// channel the upper 8 count, and what an alpha channel hides is seen, as in Pillow's `convert("RGB")`.
pub fn decode_source(file: &[u8]) -> Result<Picture, PictureError> {
    let mut reader = open(file, Transformations::EXPAND | Transformations::STRIP_16)?;
    let (frame, bytes) = frame(&mut reader)?;
    reader.finish().map_err(damaged)?;
    let rgb = match frame.color_type {
        ColorType::Rgba => bytes.chunks_exact(4).flat_map(|pixel| pixel[..3].iter().copied()).collect(),
        ColorType::GrayscaleAlpha => bytes.iter().step_by(2).flat_map(|&grey| [grey; 3]).collect(),
        color => widen(color, bytes)?,
    };
    Picture::new(frame.width, frame.height, rgb)
}

/// Reads what the file says of itself, and compares it with what the file holds.
///
/// A picture that 8-bit RGB cannot hold has no pixel digest, but its texts are read all the same.
pub fn read_metadata(file: &[u8]) -> Result<Metadata, PictureError> {
    let mut reader = open(file, Transformations::EXPAND)?;
    let picture = match pixels(&mut reader) {
        Err(PictureError::NotRgb8 { .. }) => None,
        other => Some(other?),
    };
    reader.finish().map_err(damaged)?;
    let info = reader.info();
    let (width, height) = (info.width, info.height);
    Ok(Metadata::new(width, height, picture.map(|picture| picture.digest()), texts(info)?))
}

type FileReader<'a> = Reader<Cursor<&'a [u8]>>;

fn open(file: &[u8], transformations: Transformations) -> Result<FileReader<'_>, PictureError> {
    if file.len() > limits::MAX_ARTIFACT_BYTES {
        return Err(PictureError::FileTooLarge { given: file.len() });
    }
    if !file.starts_with(&SIGNATURE) {
        return Err(PictureError::NotPng);
    }
    let mut options = DecodeOptions::default();
    options.set_ignore_checksums(false);
    options.set_skip_ancillary_crc_failures(false);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(file), options);
    decoder.set_limits(Limits { bytes: MAX_CHUNK_BYTES });
    decoder.set_transformations(transformations);
    let header = decoder.read_header_info().map_err(damaged)?;
    check_sides(header.width, header.height)?;
    let reader = decoder.read_info().map_err(damaged)?;
    check_palette(reader.info())?;
    Ok(reader)
}

/// The decoder holds a palette to 3 to 768 bytes, but would panic over one that ends within a colour.
fn check_palette(info: &Info<'_>) -> Result<(), PictureError> {
    let bytes = info.palette.as_ref().map_or(3, |palette| palette.len());
    if bytes.is_multiple_of(3) && (3..=3 * 256).contains(&bytes) {
        return Ok(());
    }
    Err(PictureError::Palette { bytes })
}

fn damaged(error: DecodingError) -> PictureError {
    match error {
        DecodingError::LimitsExceeded => PictureError::TextTooLarge { limit: MAX_TEXT_BYTES },
        error => PictureError::Damaged(error),
    }
}

fn pixels(reader: &mut FileReader<'_>) -> Result<Picture, PictureError> {
    let (frame, bytes) = frame(reader)?;
    if frame.bit_depth != BitDepth::Eight {
        return Err(PictureError::NotRgb8 { what: "16 bits a channel" });
    }
    Picture::new(frame.width, frame.height, widen(frame.color_type, bytes)?)
}

/// The first picture of the file, in the bytes of its own kind.
fn frame(reader: &mut FileReader<'_>) -> Result<(OutputInfo, Vec<u8>), PictureError> {
    let (width, height) = (reader.info().width, reader.info().height);
    let size = reader.output_buffer_size().ok_or(PictureError::SideOutOfRange { width, height })?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).map_err(damaged)?;
    buffer.truncate(frame.buffer_size());
    Ok((frame, buffer))
}

fn widen(color: ColorType, bytes: Vec<u8>) -> Result<Vec<u8>, PictureError> {
    match color {
        ColorType::Rgb => Ok(bytes),
        ColorType::Rgba => {
            opaque(bytes.iter().skip(3).step_by(4))?;
            Ok(bytes.chunks_exact(4).flat_map(|pixel| pixel[..3].iter().copied()).collect())
        }
        ColorType::Grayscale => Ok(bytes.iter().flat_map(|&grey| [grey; 3]).collect()),
        ColorType::GrayscaleAlpha => {
            opaque(bytes.iter().skip(1).step_by(2))?;
            Ok(bytes.iter().step_by(2).flat_map(|&grey| [grey; 3]).collect())
        }
        ColorType::Indexed => Err(PictureError::NotRgb8 { what: "a palette that could not be expanded" }),
    }
}

fn opaque<'a>(mut alpha: impl Iterator<Item = &'a u8>) -> Result<(), PictureError> {
    if alpha.all(|&alpha| alpha == u8::MAX) {
        return Ok(());
    }
    Err(PictureError::NotRgb8 { what: "transparent pixels" })
}

/// Every text of the file, unpacked within one allowance for all of them.
fn texts(info: &Info<'_>) -> Result<Texts, PictureError> {
    let mut texts = Texts::new(MAX_TEXT_BYTES);
    for chunk in &info.uncompressed_latin1_text {
        texts.add(&chunk.keyword, chunk.text.clone())?;
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        let unpacked = chunk.decompress_text_with_limit(texts.left());
        unpacked.map_err(|error| packed(&chunk.keyword, error))?;
        texts.add(&chunk.keyword, chunk.get_text().map_err(damaged)?)?;
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        let unpacked = chunk.decompress_text_with_limit(texts.left());
        unpacked.map_err(|error| packed(&chunk.keyword, error))?;
        texts.add(&chunk.keyword, chunk.get_text().map_err(damaged)?)?;
    }
    Ok(texts)
}

fn packed(keyword: &str, source: DecodingError) -> PictureError {
    PictureError::PackedText { keyword: keyword.to_owned(), limit: MAX_TEXT_BYTES, source }
}
