//! Weights from safetensors files, whatever their stored precision, as `f32` tensors.
//!
//! The file is hostile: nothing is allocated before the header has been held against the file's size,
//! and a tensor is read only after its shape has been held against the one the model asks for.

mod header;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use header::{Entry, HeaderFault};

use crate::ops::Ops;
use crate::{Error, Result};

/// An open safetensors file with a validated header. Remembers which tensors were read.
pub(crate) struct WeightsFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    entries: BTreeMap<String, Entry>,
    read: RefCell<BTreeSet<String>>,
}

impl WeightsFile {
    /// Opens the file and validates its header.
    ///
    /// Errors: [`Error::Malformed`] for a fault of the file as a whole, [`Error::Tensor`] for one tensor's.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        let fault = |fault| located(path, fault);
        if file_bytes < 8 {
            let reason = format!("{file_bytes} bytes are too few for a safetensors header");
            return Err(fault(HeaderFault::File(reason)));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let header_bytes = u64::from_le_bytes(length);
        header::check_length(header_bytes, file_bytes).map_err(fault)?;
        let mut json = vec![0; header_bytes as usize];
        file.read_exact(&mut json).map_err(io)?;
        let data_start = 8 + header_bytes;
        let entries = header::parse(&json, file_bytes - data_start).map_err(fault)?;
        Ok(Self { path: path.to_owned(), file, data_start, entries, read: RefCell::default() })
    }

    /// The whole file as the root of a tree of names, whose tensors are made for `ops`.
    pub fn root<'a>(&'a self, ops: &'a Ops) -> Weights<'a> {
        Weights { file: self, ops, prefix: String::new() }
    }

    /// Whether any tensor's name starts with `prefix`.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.entries.keys().any(|key| key.starts_with(prefix))
    }

    /// Refuses a file with tensors that the model did not read, other than those whose names start with
    /// one of `unused`: they would belong to a part of the model that is not being computed.
    pub fn expect_all_read(&self, unused: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        let extra = self
            .entries
            .keys()
            .find(|key| !read.contains(*key) && !unused.iter().any(|prefix| key.starts_with(prefix)));
        extra.map_or(Ok(()), |key| {
            Err(self.fault(key, "belongs to no layer that the configuration describes".to_owned()))
        })
    }

    fn fault(&self, key: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.clone(), key: key.to_owned(), reason }
    }

    fn read_f32(&self, key: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(entry) = self.entries.get(key) else {
            return Err(self.fault(key, format!("is missing: shape {shape:?} is needed")));
        };
        if entry.shape != shape {
            return Err(self.fault(key, format!("has shape {:?}, but {shape:?} is needed", entry.shape)));
        }
        let decode = decoder(&entry.dtype).ok_or_else(|| {
            self.fault(key, format!("is stored as {}: F16, BF16 or F32 is needed", entry.dtype))
        })?;
        let mut bytes = vec![0; (entry.end - entry.start) as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + entry.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Io { path: self.path.clone(), source })?;
        let values = decode(&bytes);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.fault(key, "holds a value that is not finite".to_owned()));
        }
        self.read.borrow_mut().insert(key.to_owned());
        Ok(values)
    }
}

fn located(path: &Path, fault: HeaderFault) -> Error {
    let path = path.to_owned();
    match fault {
        HeaderFault::File(reason) => Error::Malformed { path, reason },
        HeaderFault::Tensor(key, reason) => Error::Tensor { path, key, reason },
    }
}

/// Turns the bytes of a stored type into `f32`; every conversion is exact.
type Decoder = fn(&[u8]) -> Vec<f32>;

fn decoder(dtype: &str) -> Option<Decoder> {
    match dtype {
        "F32" => Some(|bytes| {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }),
        "F16" => Some(|bytes| {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }),
        "BF16" => Some(|bytes| {
            bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }),
        _ => None,
    }
}

/// A place in the tree of tensor names, as in `down_blocks.0.resnets.1`.
#[derive(Clone)]
pub(crate) struct Weights<'a> {
    file: &'a WeightsFile,
    ops: &'a Ops,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// One step down the tree.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.key(name), ..self.clone() }
    }

    /// The operations that the tensors are loaded for.
    pub fn ops(&self) -> &'a Ops {
        self.ops
    }

    /// Whether the tensor is in the file, by its name below this place.
    pub fn has(&self, name: &str) -> bool {
        self.file.entries.contains_key(&self.key(name))
    }

    /// The number of dimensions of a tensor, if it is in the file.
    pub fn rank(&self, name: &str) -> Option<usize> {
        self.file.entries.get(&self.key(name)).map(|entry| entry.shape.len())
    }

    /// The values of a tensor, which must have exactly this shape, in row-major order.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.file.read_f32(&self.key(name), shape)
    }

    /// The same values as a tensor on the device of [`Weights::ops`].
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.values(name, shape)?, shape, self.ops.device())?)
    }

    fn key(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
