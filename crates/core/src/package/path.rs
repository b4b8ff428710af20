//! The path of a file within a package: one that may be joined to a folder on any machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::PackageFault;
use crate::limits;

/// Characters of a path that are neither letters nor digits.
const OTHERS: &str = "._-+=@() ";
/// Endings of files that can run code when they are read.
const PICKLES: [&str; 6] = ["bin", "ckpt", "pickle", "pkl", "pt", "pth"];
/// Names that Windows keeps for itself.
const RESERVED: [&str; 4] = ["aux", "con", "nul", "prn"];
/// Most characters of a path that are repeated in an error.
const SHOWN: usize = 80;

/// A relative path with `/` between its names, that leaves no folder, hides nowhere and means the same on
/// every system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PackagePath(String);

impl PackagePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path as a system sees it that takes small and capital letters for the same.
    pub(super) fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The folders that it lies in, folded.
    pub(super) fn parents(&self) -> impl Iterator<Item = String> {
        let path = self.folded();
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        ends.into_iter().map(move |at| path[..at].to_owned())
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PackagePath {
    type Err = PackageFault;

    fn from_str(text: &str) -> Result<Self, PackageFault> {
        if let Some(reason) = fault(text) {
            let given = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
            return Err(PackageFault::BadPath { given, reason });
        }
        let ending = text.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
        if PICKLES.contains(&ending.as_str()) {
            return Err(PackageFault::Pickle { given: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for PackagePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is wrong with a path, if anything is.
fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("is empty");
    }
    if text.len() > limits::MAX_MODEL_PATH_BYTES {
        return Some("is too long");
    }
    if text.starts_with('/') {
        return Some("is absolute");
    }
    if text.split('/').count() > limits::MAX_MODEL_PATH_DEPTH {
        return Some("lies too deep");
    }
    if text.chars().any(|c| c != '/' && !c.is_ascii_alphanumeric() && !OTHERS.contains(c)) {
        return Some("holds a character that is not allowed");
    }
    text.split('/').find_map(name_fault)
}

/// What is wrong with one name of a path.
fn name_fault(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    match name {
        "" => Some("holds an empty name"),
        "." | ".." => Some("leads out of its folder"),
        _ if name.starts_with('.') => Some("is hidden"),
        _ if name.starts_with(' ') || name.ends_with([' ', '.']) => Some("holds a name with a loose end"),
        _ if RESERVED.contains(&stem.as_str()) => Some("holds a name that Windows keeps for itself"),
        _ => None,
    }
}
