//! What leaves a worker's disk to make room for a package.

use std::collections::BTreeMap;

use crate::digest::{FileDigest, PackageDigest};

/// A package on a worker's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelved {
    /// Which.
    pub package: PackageDigest,
    /// Its files and their sizes; packages share what is the same.
    pub files: BTreeMap<FileDigest, u64>,
    /// When it was last used, in milliseconds since 1970-01-01 UTC.
    pub used_at_ms: u64,
    /// Whether it is loaded or leased: then it stays.
    pub in_use: bool,
}

/// Not even without everything that is idle is there room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} bytes are needed, {in_use} of them for models in use, and {limit} may be used: raise the limit of \
     the model cache, or wait until the other models are idle"
)]
pub struct NoRoom {
    /// Bytes that would be taken with everything idle gone.
    pub needed: u64,
    /// Those of models in use among them.
    pub in_use: u64,
    /// Bytes that may be taken.
    pub limit: u64,
}

/// The packages that leave, so that the files of `wanted` fit beside the rest within `limit` bytes: those that
/// were not used for longest, never one in use, and none whose leaving frees nothing.
///
/// # Errors
/// [`NoRoom`] where they do not fit beside what is in use.
pub fn make_room(
    shelved: &[Shelved],
    wanted: &BTreeMap<FileDigest, u64>,
    limit: u64,
) -> Result<Vec<PackageDigest>, NoRoom> {
    let (mut kept, mut idle): (Vec<&Shelved>, Vec<&Shelved>) =
        shelved.iter().partition(|package| package.in_use);
    let needed = bytes(&kept, wanted);
    if needed > limit {
        return Err(NoRoom { needed, in_use: bytes(&kept, &BTreeMap::new()), limit });
    }
    // From nothing but what is in use, those come back that were used last and still fit.
    idle.sort_by_key(|package| (package.used_at_ms, package.package));
    let mut leaving = Vec::new();
    while let Some(package) = idle.pop() {
        kept.push(package);
        if bytes(&kept, wanted) > limit {
            kept.pop();
            leaving.push(package.package);
        }
    }
    leaving.reverse();
    Ok(leaving)
}

/// Bytes of all files, each once.
fn bytes(packages: &[&Shelved], wanted: &BTreeMap<FileDigest, u64>) -> u64 {
    let files = packages.iter().flat_map(|package| &package.files).chain(wanted);
    let each: BTreeMap<_, _> = files.collect();
    each.values().fold(0, |sum, bytes| sum.saturating_add(**bytes))
}
