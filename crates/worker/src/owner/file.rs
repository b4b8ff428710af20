//! The file of limits: where it lies, reading it, and noticing that it was changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use seedfarm_core::owner::{Limits, LimitsFault};
use seedfarm_core::terms::Tag;
use seedfarm_engine::DeviceSpec;

use crate::home;

/// Its name in the worker's folder.
const NAME: &str = "owner.toml";

/// Most bytes of it.
const MAX_BYTES: u64 = 1 << 20;

/// Limits that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The file cannot be read.
    #[error("the owner's limits {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// The file was there and is gone.
    #[error("the owner's limits {} are gone: write an empty file to lift every limit", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The file is far too large.
    #[error("the owner's limits {} have {bytes} bytes, more than the limit of {MAX_BYTES}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is no TOML, or names what there is not.
    #[error("{} line {line}: {reason}: see 'seedfarm worker limits --example'", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A limit that cannot be meant.
    #[error("{}: {fault}", path.display())]
    Limit {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        fault: LimitsFault,
    },
    /// A device that is called nothing known.
    #[error("{}: devices names '{name}': known are cpu, cuda and cuda:N", path.display())]
    Device {
        /// The file.
        path: PathBuf,
        /// What was written.
        name: String,
    },
}

/// Where the limits lie.
#[derive(Debug, Clone)]
pub struct LimitsFile {
    path: PathBuf,
    /// Whether it was asked for by name, so that it must be there.
    required: bool,
    /// Tags besides its own.
    tags: Vec<Tag>,
}

impl LimitsFile {
    /// The file that was asked for, or `owner.toml` in the worker's folder.
    pub fn locate(data_dir: &Path, given: Option<&Path>) -> Self {
        match given {
            Some(path) => Self { path: path.to_owned(), required: true, tags: Vec::new() },
            None => Self { path: home::folder(data_dir).join(NAME), required: false, tags: Vec::new() },
        }
    }

    /// The same file, with `tags` besides those in it.
    #[must_use]
    pub fn with_tags(self, tags: &[Tag]) -> Self {
        Self { tags: tags.to_vec(), ..self }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Reads it. No file limits nothing, unless it was asked for by name.
    ///
    /// # Errors
    /// A file that cannot be read, with the line and the reason.
    pub fn read(&self) -> Result<Limits, LimitsError> {
        let path = || self.path.clone();
        match fs::metadata(&self.path) {
            Ok(data) if data.len() > MAX_BYTES => {
                return Err(LimitsError::TooLarge { path: path(), bytes: data.len() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.required => {
                return self.parse("");
            }
            _ => {}
        }
        let text = fs::read_to_string(&self.path);
        self.parse(&text.map_err(|source| LimitsError::Read { path: path(), source })?)
    }

    fn parse(&self, text: &str) -> Result<Limits, LimitsError> {
        let path = || self.path.clone();
        let mut limits: Limits = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let reason = error.message().replace('\n', ", ");
            LimitsError::Parse { path: path(), line: before.matches('\n').count() + 1, reason }
        })?;
        limits.tags.extend(self.tags.iter().cloned());
        limits.check().map_err(|fault| LimitsError::Limit { path: path(), fault })?;
        for name in limits.devices.iter_mut().flatten() {
            let spec = name.parse::<DeviceSpec>();
            *name = spec.map_err(|_| LimitsError::Device { path: path(), name: name.clone() })?.to_string();
        }
        Ok(limits)
    }
}

/// What tells a changed file from an unchanged one without reading it; `None` for a file that is not there.
type Mark = Option<(u64, u64, i64, i64)>;

/// Notices edits. A file that is being written is read once it has stayed the same between two looks.
#[derive(Debug)]
pub(super) struct Edits {
    file: LimitsFile,
    read: Mark,
    last: Mark,
}

impl Edits {
    /// Reads the file for the first time.
    pub(super) fn begin(file: LimitsFile) -> Result<(Self, Limits), LimitsError> {
        let mark = mark(&file.path);
        let limits = file.read()?;
        Ok((Self { file, read: mark, last: mark }, limits))
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// The file's new content, once after every edit.
    pub(super) fn poll(&mut self) -> Option<Result<Limits, LimitsError>> {
        let now = mark(&self.file.path);
        let settled = now == self.last;
        self.last = now;
        if !settled || now == self.read {
            return None;
        }
        self.read = now;
        Some(match now {
            Some(_) => self.file.read(),
            None => Err(LimitsError::Gone { path: self.file.path.clone() }),
        })
    }
}

fn mark(path: &Path) -> Mark {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
}
