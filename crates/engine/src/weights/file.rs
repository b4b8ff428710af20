//! One safetensors file: opened, its header held against its size, nothing of its data read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::header::{self, Entry, HeaderFault};
use crate::{Error, Result};

/// An open safetensors file with a validated header.
pub(crate) struct SafetensorsFile {
    pub(super) path: PathBuf,
    file: File,
    data_start: u64,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// Opens the file and validates its header.
    ///
    /// Errors: [`Error::Malformed`] for a fault of the file as a whole, [`Error::Tensor`] for one tensor's.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
            _ => Error::Io { path: path.to_owned(), source },
        };
        let fault = |fault| located(path, fault);
        // Asked before opening, which would wait for ever on a pipe.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(fault(HeaderFault::File("is not a file".to_owned())));
        }
        let mut file = File::open(path).map_err(io)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        if file_bytes < 8 {
            let reason = format!("{file_bytes} bytes are too few for a safetensors header");
            return Err(fault(HeaderFault::File(reason)));
        }
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(io)?;
        let header_bytes = u64::from_le_bytes(start);
        refuse_disguise(path, start)?;
        header::check_length(header_bytes, file_bytes).map_err(fault)?;
        let mut json = vec![0; header_bytes as usize];
        file.read_exact(&mut json).map_err(io)?;
        let data_start = 8 + header_bytes;
        let entries = header::parse(&json, file_bytes - data_start).map_err(fault)?;
        Ok(Self { path: path.to_owned(), file, data_start, entries })
    }

    /// A file that has a header alone, of tensors by name and shape.
    #[cfg(test)]
    pub fn of_shapes(tensors: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let mut at = 0;
        let mut entry = |(key, shape): (String, Vec<usize>)| {
            let start = at;
            at += 2 * shape.iter().product::<usize>() as u64;
            (key, Entry { dtype: "F16".to_owned(), shape, start, end: at })
        };
        let entries = tensors.into_iter().map(&mut entry).collect();
        let file = tempfile::tempfile().expect("a temporary file");
        Self { path: PathBuf::from("checkpoint.safetensors"), file, data_start: 0, entries }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.entries.get(key).map(|entry| entry.shape.as_slice())
    }

    /// An error about one tensor of this file.
    pub fn fault(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Tensor { path: self.path.clone(), key: key.to_owned(), reason: reason.into() }
    }

    /// The one whole number that a tensor of one element holds.
    ///
    /// Errors: a read that fails. A tensor of another size or type gives nothing.
    pub fn whole_number(&self, key: &str) -> Result<Option<i64>> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        let (dtype, range) = (entry.dtype.as_str(), entry.start..entry.end);
        if !matches!((dtype, range.end - range.start), ("I64", 8) | ("I32", 4)) {
            return Ok(None);
        }
        let bytes = self.read(range)?;
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(&bytes);
        let value = i64::from_le_bytes(wide);
        Ok(Some(if dtype == "I32" { i64::from(value as i32) } else { value }))
    }

    /// Bytes of the data, by their range after the header. The range lies inside the file, since it comes
    /// from a validated header.
    pub(super) fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + range.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }
}

/// Files that only call themselves safetensors: a ZIP archive, which is how PyTorch packs its pickles, or a
/// bare pickle. Either is told by its first bytes, which no plausible header length begins with.
fn refuse_disguise(path: &Path, start: [u8; 8]) -> Result<()> {
    let pickle =
        start[0] == 0x80 && (2..=5).contains(&start[1]) && u64::from_le_bytes(start) > u64::from(u32::MAX);
    if start.starts_with(b"PK\x03\x04") || pickle {
        return Err(Error::Pickle { path: path.to_owned() });
    }
    Ok(())
}

fn located(path: &Path, fault: HeaderFault) -> Error {
    let path = path.to_owned();
    match fault {
        HeaderFault::File(reason) => Error::Malformed { path, reason },
        HeaderFault::Tensor(key, reason) => Error::Tensor { path, key, reason },
    }
}
