//! The JSON files that describe a model's parts, read with every value bounded.
//!
//! A key that the engine would have to obey and cannot is an error that names it: a model is computed
//! as its files say or not at all.

pub(crate) mod clip;
pub(crate) mod controlnet;
pub(crate) mod scheduler;
pub(crate) mod taesd;
pub(crate) mod unet;
pub(crate) mod vae;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Channels of any layer.
pub(crate) const CHANNELS: RangeInclusive<usize> = 1..=8192;
/// Blocks of a UNet or a VAE, from the full size to the smallest.
pub(crate) const BLOCKS: RangeInclusive<usize> = 1..=8;
/// Layers of one block, or transformer layers of one attention.
pub(crate) const LAYERS: RangeInclusive<usize> = 1..=64;
/// Small constants that keep a division away from zero.
pub(crate) const EPSILON: RangeInclusive<f64> = 1e-12..=1e-2;

/// Reads at most `limit` bytes of a file.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Io { path: path.to_owned(), source },
    };
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > limit {
        let reason = format!("{bytes} bytes are more than the limit of {limit}");
        return Err(Error::Malformed { path: path.to_owned(), reason });
    }
    std::fs::read(path).map_err(io)
}

/// Python's JSON for a bound that is none, which diffusers writes for DPM-Solver's `lambda_min_clipped`, is no
/// JSON: as a value it counts as null.
fn without_infinity(mut bytes: Vec<u8>) -> Vec<u8> {
    const INFINITY: &[u8] = b": -Infinity";
    let places: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(INFINITY)).collect();
    for place in places {
        bytes[place..place + INFINITY.len()].copy_from_slice(b": null     ");
    }
    bytes
}

/// One JSON object with its path, whose values are taken out by key.
pub(crate) struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
}

impl ConfigFile {
    /// Reads the file; it must hold one JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_CONFIG_BYTES)?;
        let values = serde_json::from_slice(&without_infinity(bytes)).map_err(|error| Error::Malformed {
            path: path.to_owned(),
            reason: format!("not a JSON object: {error}"),
        })?;
        Ok(Self { path: path.to_owned(), values })
    }

    /// Values that stand in no configuration of their own: `path` is the file that they were found in.
    pub fn of(path: &Path, values: Map<String, Value>) -> Self {
        Self { path: path.to_owned(), values }
    }

    /// An error about one key of this file.
    pub fn fault(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Config { path: self.path.clone(), key: key.to_owned(), reason: reason.into() }
    }

    /// The raw value; absent and null are the same.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there and null, where that means something else than absence.
    pub fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// A whole number within `range`. Without a default the key is required.
    pub fn count(&self, key: &str, default: Option<usize>, range: RangeInclusive<usize>) -> Result<usize> {
        match (self.get(key), default) {
            (Some(value), _) => self.as_count(key, value, range),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.fault(key, "is missing")),
        }
    }

    /// A list of `length` whole numbers within `range`; one number alone stands for all of them.
    pub fn counts(
        &self,
        key: &str,
        default: Option<usize>,
        length: usize,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>> {
        match self.get(key) {
            Some(Value::Array(values)) if values.len() == length => {
                values.iter().map(|value| self.as_count(key, value, range.clone())).collect()
            }
            Some(Value::Array(values)) => {
                Err(self.fault(key, format!("has {} entries, but there are {length} blocks", values.len())))
            }
            _ => Ok(vec![self.count(key, default, range)?; length]),
        }
    }

    /// A list of whole numbers, one a block, in the file's own length.
    pub fn block_channels(&self, key: &str) -> Result<Vec<usize>> {
        let Some(Value::Array(values)) = self.get(key) else {
            return Err(self.fault(key, "must be a list of channel counts, one a block"));
        };
        if !BLOCKS.contains(&values.len()) {
            return Err(self.fault(key, format!("has {} blocks: {BLOCKS:?} are supported", values.len())));
        }
        values.iter().map(|value| self.as_count(key, value, CHANNELS)).collect()
    }

    /// A finite number within `range`.
    pub fn number(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(number),
            _ => Err(self.fault(key, format!("is {value}: a number in {range:?} is needed"))),
        }
    }

    /// True or false.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.fault(key, format!("is {value}: true or false is needed")))
    }

    /// A text.
    pub fn text(&self, key: &str, default: &'static str) -> Result<&str> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_str().ok_or_else(|| self.fault(key, format!("is {value}: a text is needed")))
    }

    /// A list of texts, of the given length.
    pub fn texts(&self, key: &str, length: usize) -> Result<Vec<&str>> {
        let texts = self
            .get(key)
            .and_then(Value::as_array)
            .and_then(|values| values.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        match texts {
            Some(texts) if texts.len() == length => Ok(texts),
            Some(texts) => {
                Err(self.fault(key, format!("has {} entries, but there are {length} blocks", texts.len())))
            }
            None => Err(self.fault(key, "must be a list of block types")),
        }
    }

    /// Refuses any value but absence, null and the ones given: they are all that is computed here.
    pub fn only(&self, key: &str, supported: &[Value]) -> Result<()> {
        match self.get(key) {
            Some(value) if !supported.contains(value) => {
                let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
                let supported = if supported.is_empty() { "null".to_owned() } else { supported.join(" or ") };
                Err(self.fault(key, format!("is {value}: only {supported} is supported")))
            }
            _ => Ok(()),
        }
    }

    /// A value of the key as a whole number within `range`.
    pub fn as_count(&self, key: &str, value: &Value, range: RangeInclusive<usize>) -> Result<usize> {
        match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) if range.contains(&count) => Ok(count),
            _ => Err(self.fault(key, format!("is {value}: a whole number in {range:?} is needed"))),
        }
    }
}
