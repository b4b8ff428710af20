//! Weights in several files with an index, as diffusers and transformers write large models:
//! `*.safetensors.index.json` with a `weight_map` from tensor to file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::file::SafetensorsFile;
use crate::config::read_bounded;
use crate::{Error, Result};

/// Largest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Most files of one part.
const MAX_FILES: usize = 256;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The names of the files that an index lists, in alphabetical order.
///
/// Errors: an index that is not one, or names a file that does not lie beside it.
pub(crate) fn listed_files(index: &Path) -> Result<Vec<String>> {
    let names: BTreeSet<String> = read(index)?.weight_map.into_values().collect();
    Ok(names.into_iter().collect())
}

/// Opens the files of an index and holds their tensors against it.
pub(super) fn open(index: &Path) -> Result<Vec<SafetensorsFile>> {
    let listed = read(index)?.weight_map;
    let names: BTreeSet<&String> = listed.values().collect();
    let folder = index.parent().unwrap_or(Path::new(""));
    let files = names.iter().map(|name| SafetensorsFile::open(&folder.join(name)));
    let files = files.collect::<Result<Vec<_>>>()?;
    for (key, name) in &listed {
        let there = names.iter().zip(&files).any(|(of, file)| *of == name && file.shape(key).is_some());
        if !there {
            return Err(fault(index, key, format!("is not in {name}, where the index says it is")));
        }
    }
    for (name, file) in names.iter().zip(&files) {
        if let Some(key) = file.keys().find(|key| listed.get(*key) != Some(name)) {
            return Err(file.fault(key, format!("is not listed for this file in {}", index.display())));
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Index> {
    let bytes = read_bounded(path, MAX_INDEX_BYTES)?;
    let malformed = |reason| Error::Malformed { path: path.to_owned(), reason };
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| malformed(format!("not an index of weights: {error}")))?;
    if let Some((key, name)) = index.weight_map.iter().find(|(_, name)| !is_beside(name)) {
        let reason = format!("is said to lie in '{name}': a .safetensors file beside the index is needed");
        return Err(fault(path, key, reason));
    }
    let files = index.weight_map.values().collect::<BTreeSet<_>>().len();
    if files == 0 || files > MAX_FILES {
        return Err(malformed(format!("names {files} files: 1 to {MAX_FILES} are supported")));
    }
    Ok(index)
}

/// Whether the name is that of a weights file in the same folder, and not a path to anywhere else.
fn is_beside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    plain && name.ends_with(".safetensors")
}

fn fault(path: &Path, key: &str, reason: String) -> Error {
    Error::Tensor { path: path.to_owned(), key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_weights_file_in_the_same_folder_is_beside_the_index() {
        assert!(is_beside("model-00001-of-00002.safetensors"));
        for name in
            ["../a.safetensors", "/a.safetensors", "b/a.safetensors", "./a.safetensors", "", "a.bin", ".."]
        {
            assert!(!is_beside(name), "{name}");
        }
    }
}
