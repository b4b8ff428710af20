//! Where LoRAs, textual inversions and ControlNets may lie: `.safetensors` files and folders beside models.

use std::fs;
use std::path::{Path, PathBuf};

/// The file that makes a folder a model: what lies in it belongs to the model.
const INDEX: &str = "model_index.json";
/// The file that a ControlNet's folder has: what lies in it belongs to the ControlNet.
const CONFIG: &str = "config.json";
/// How deep below a folder of models is looked, as in `models/loras/felt.safetensors`.
const DEPTH: usize = 2;
/// Most files and folders that are looked at.
const MOST: usize = 10_000;

/// Files and folders in `folders` that may be adapters, each once, in order; which are is for the engine to
/// say.
pub fn adapter_candidates(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| !folder.join(INDEX).is_file()) {
        collect(folder, DEPTH, &mut found);
    }
    found.sort();
    found.dedup();
    if found.len() > MOST {
        tracing::warn!(
            found = found.len(),
            most = MOST,
            "too many files beside the models: the rest is passed over"
        );
        found.truncate(MOST);
    }
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if found.len() > MOST {
            return;
        }
        if path.is_dir() {
            if path.join(CONFIG).is_file() && !path.join(INDEX).is_file() {
                found.push(path);
            } else if depth > 0 && !path.join(INDEX).is_file() {
                collect(&path, depth - 1, found);
            }
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_beside_models_and_in_folders_of_their_own_are_found_and_parts_of_models_are_not() {
        let root = tempfile::tempdir().unwrap();
        let touch = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        touch("model/model_index.json");
        touch("model/unet/diffusion_pytorch_model.safetensors");
        touch("a.safetensors");
        touch("notes.txt");
        touch("loras/styles/felt.SafeTensors");
        touch("canny/config.json");
        touch("canny/diffusion_pytorch_model.safetensors");
        let found = adapter_candidates(&[root.path().to_owned()]);
        let expected = ["a.safetensors", "canny", "loras/styles/felt.SafeTensors"];
        assert_eq!(found, expected.map(|name| root.path().join(name)));
        assert!(adapter_candidates(&[root.path().join("model")]).is_empty());
    }
}
