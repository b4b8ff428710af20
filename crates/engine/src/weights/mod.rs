//! Weights from safetensors files, whatever their stored precision, as `f32` tensors.
//!
//! The files are hostile: nothing is allocated before a header has been held against the file's size,
//! and a tensor is read only after its shape has been held against the one the model asks for.
//!
//! Layers ask by the names that diffusers gives. In a folder the files have them; of a checkpoint in one
//! file, [`WeightsFile::view`] shows the tensors under them.

mod file;
mod header;
mod sharded;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

pub(crate) use self::file::SafetensorsFile;
pub(crate) use self::sharded::listed_files;
use crate::adapters::Patches;
use crate::ops::Ops;
use crate::{Error, Result};

/// How the name of an index of several files ends.
const INDEX_SUFFIX: &str = ".json";

/// Why a tensor is refused that no layer asks for.
pub(crate) const UNKNOWN: &str = "belongs to no layer that the configuration describes";

/// Where the numbers of one tensor lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Which of the files.
    file: usize,
    /// The tensor's name in that file.
    key: String,
    dtype: String,
    /// The shape that is asked for.
    shape: Vec<usize>,
    /// First byte and one past the last, counted from the end of the header.
    range: (u64, u64),
    /// Whether rows and columns are exchanged in the file.
    transposed: bool,
}

/// The weights of one part of a model. Remembers which tensors were read.
pub(crate) struct WeightsFile {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    tensors: BTreeMap<String, Stored>,
    read: RefCell<BTreeSet<String>>,
    patches: Patches,
}

impl WeightsFile {
    /// Opens a safetensors file, or several by their index (`*.json`), and validates every header.
    ///
    /// Errors: [`Error::Malformed`] for a fault of a file as a whole, [`Error::Tensor`] for one tensor's.
    pub fn open(path: &Path) -> Result<Self> {
        let is_index = path.as_os_str().to_string_lossy().ends_with(INDEX_SUFFIX);
        let files = if is_index { sharded::open(path)? } else { vec![SafetensorsFile::open(path)?] };
        let mut tensors = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for key in file.keys() {
                tensors.extend(Stored::whole(index, file, key).map(|stored| (key.to_owned(), stored)));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            files,
            tensors,
            read: RefCell::default(),
            patches: Patches::default(),
        })
    }

    /// A file's tensors under other names. What `tensors` leaves out is not seen.
    pub fn view(file: SafetensorsFile, tensors: BTreeMap<String, Stored>) -> Self {
        let path = file.path.clone();
        Self { path, files: vec![file], tensors, read: RefCell::default(), patches: Patches::default() }
    }

    /// The same weights with what adapters add to them.
    pub fn with_patches(self, patches: Patches) -> Self {
        Self { patches, ..self }
    }

    /// The file, or the index of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The same with each tensor named on its own.
    ///
    /// Errors: the first tensor that `name` gives nothing for.
    pub fn view_of(
        file: SafetensorsFile,
        name: impl Fn(&SafetensorsFile, &str) -> Option<(String, Stored)>,
    ) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for key in file.keys() {
            let (name, stored) = name(&file, key).ok_or_else(|| file.fault(key, UNKNOWN))?;
            if tensors.insert(name, stored).is_some() {
                return Err(file.fault(key, "is there twice, under two spellings of its name"));
            }
        }
        Ok(Self::view(file, tensors))
    }

    /// The whole file as the root of a tree of names, whose tensors are made for `ops`.
    pub fn root<'a>(&'a self, ops: &'a Ops) -> Weights<'a> {
        Weights { file: self, ops, prefix: String::new() }
    }

    /// Whether any tensor's name starts with `prefix`.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|key| key.starts_with(prefix))
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Refuses a file with tensors that the model did not read, other than those whose names start with
    /// one of `unused`: they would belong to a part of the model that is not being computed.
    pub fn expect_all_read(&self, unused: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        let extra = self
            .tensors
            .keys()
            .find(|key| !read.contains(*key) && !unused.iter().any(|prefix| key.starts_with(prefix)));
        match extra {
            Some(key) => Err(self.fault(key, UNKNOWN.to_owned())),
            None => self.patches.expect_all_merged(),
        }
    }

    /// An error about one tensor, by the name that it has in its file.
    pub fn fault(&self, name: &str, reason: String) -> Error {
        let Some(stored) = self.tensors.get(name) else {
            return Error::Tensor { path: self.path.clone(), key: name.to_owned(), reason };
        };
        self.files[stored.file].fault(&stored.key, reason)
    }

    /// The values of a tensor, which must have exactly this shape, in row-major order.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(stored) = self.tensors.get(name) else {
            return Err(self.fault(name, format!("is missing: shape {shape:?} is needed")));
        };
        if stored.shape != shape {
            return Err(self.fault(name, format!("has shape {:?}, but {shape:?} is needed", stored.shape)));
        }
        let decode = decoder(&stored.dtype).ok_or_else(|| {
            self.fault(name, format!("is stored as {}: F16, BF16 or F32 is needed", stored.dtype))
        })?;
        let mut values = decode(&self.files[stored.file].read(stored.range.0..stored.range.1)?);
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.fault(name, "holds a value that is not finite".to_owned()));
        }
        if let ([rows, columns], true) = (shape, stored.transposed) {
            values = transposed(&values, *columns, *rows);
        }
        self.read.borrow_mut().insert(name.to_owned());
        Ok(values)
    }
}

impl Stored {
    /// A tensor as it lies in its file; nothing where the file has none of that name.
    pub fn whole(index: usize, file: &SafetensorsFile, key: &str) -> Option<Self> {
        let entry = file.entries.get(key)?;
        Some(Self {
            file: index,
            key: key.to_owned(),
            dtype: entry.dtype.clone(),
            shape: entry.shape.clone(),
            range: (entry.start, entry.end),
            transposed: false,
        })
    }

    /// The same numbers in another shape of as many elements; nothing where they are not as many.
    pub fn reshaped(self, shape: Vec<usize>) -> Option<Self> {
        let count = |shape: &[usize]| shape.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim));
        (count(&shape) == count(&self.shape)).then_some(Self { shape, ..self })
    }

    /// One of `parts` equal parts along the first dimension, counted from 0; nothing where it cannot be
    /// divided.
    pub fn part(mut self, index: usize, parts: usize) -> Option<Self> {
        let first = self.shape.first_mut().filter(|first| **first % parts == 0)?;
        *first /= parts;
        let bytes = (self.range.1 - self.range.0) / parts as u64;
        let start = self.range.0 + index as u64 * bytes;
        Some(Self { range: (start, start + bytes), ..self })
    }

    /// The matrix with rows and columns exchanged; nothing where it is no matrix.
    pub fn transpose(mut self) -> Option<Self> {
        let [rows, columns] = self.shape[..] else { return None };
        self.shape = vec![columns, rows];
        Some(Self { transposed: !self.transposed, ..self })
    }

    /// The shape that is asked for.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where the numbers lie: the tensor's name in its file, and their bytes after the header.
    #[cfg(test)]
    pub fn origin(&self) -> (&str, (u64, u64)) {
        (&self.key, self.range)
    }
}

/// A matrix `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
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
        self.file.tensors.contains_key(&self.key(name))
    }

    /// The number of dimensions of a tensor, if it is in the file.
    pub fn rank(&self, name: &str) -> Option<usize> {
        self.file.shape(&self.key(name)).map(<[usize]>::len)
    }

    /// The values of a tensor, which must have exactly this shape, in row-major order, with what adapters
    /// add to them.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let key = self.key(name);
        let mut values = self.file.values(&key, shape)?;
        self.file.patches.apply(&key, shape, &mut values)?;
        Ok(values)
    }

    /// The same values as a tensor on the device of [`Weights::ops`].
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.values(name, shape)?, shape, self.ops.device())?)
    }

    fn key(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
