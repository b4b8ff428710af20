//! The models on this machine, folders and checkpoints in one file, digested once: a cache remembers what
//! their files looked like.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use seedfarm_core::{AdapterManifest, ModelManifest};
use seedfarm_engine::{ENGINE_REVISION, describe_adapter, read_manifest};
use serde::{Deserialize, Serialize};

use crate::adapters::adapter_candidates;
use crate::durable;
use crate::error::WorkerError;
use crate::renderer::chain;
use crate::shelf::Own;

/// The file that makes a folder a model.
const INDEX: &str = "model_index.json";

/// How the name of a checkpoint in one file ends.
const CHECKPOINT: &str = "safetensors";

/// How deep below a model's folder files are looked at.
const DEPTH: usize = 4;

/// A model in a folder or in one file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LocalModel {
    pub folder: PathBuf,
    pub manifest: ModelManifest,
}

/// An adapter's file or folder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LocalAdapter {
    pub path: PathBuf,
    pub manifest: AdapterManifest,
}

/// All models and adapters that were found.
#[derive(Debug)]
pub(crate) struct Library {
    models: Vec<LocalModel>,
    adapters: Vec<LocalAdapter>,
}

/// What is remembered between starts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cache {
    /// The program that wrote it: another one may read folders otherwise.
    program: String,
    folders: BTreeMap<PathBuf, CachedModel>,
    #[serde(default)]
    adapters: BTreeMap<PathBuf, CachedAdapter>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CachedModel {
    files: Vec<FileMark>,
    manifest: ModelManifest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CachedAdapter {
    files: Vec<FileMark>,
    /// Absent for what is none.
    manifest: Option<AdapterManifest>,
}

/// What tells a changed file from an unchanged one without reading it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct FileMark {
    path: PathBuf,
    bytes: u64,
    modified_ns: u64,
}

impl Library {
    /// As [`Self::look`].
    ///
    /// # Errors
    /// [`WorkerError::NoModel`] where nothing can be used.
    pub(crate) fn scan(folders: &[PathBuf], cache_file: &Path) -> Result<Self, WorkerError> {
        let found = Self::look(folders, cache_file);
        if found.models.is_empty() {
            let folders = folders.iter().map(|folder| folder.display().to_string());
            return Err(WorkerError::NoModel { folders: folders.collect::<Vec<_>>().join(", ") });
        }
        Ok(found)
    }

    /// Finds the models in `folders`: each is a model itself, or holds some. One that cannot be used is
    /// passed over with a warning, as is a `.safetensors` file that is no checkpoint.
    pub(crate) fn look(folders: &[PathBuf], cache_file: &Path) -> Self {
        let old = Cache::read(cache_file);
        let mut new = Cache { program: program(), ..Cache::default() };
        let adapters = adapters_in(folders, &old, &mut new);
        let is_adapter = |path: &PathBuf| adapters.iter().any(|adapter| adapter.path == *path);
        let mut models: Vec<LocalModel> = Vec::new();
        let found = folders.iter().flat_map(|folder| model_folders(folder));
        for folder in found.filter(|path| !is_adapter(path)) {
            let Some(cached) = examine(&folder, &old) else { continue };
            let known = models.iter().any(|model| model.manifest.digest() == cached.manifest.digest());
            new.folders.insert(folder.clone(), cached.clone());
            if !known {
                models.push(LocalModel { folder, manifest: cached.manifest });
            }
        }
        new.write(cache_file);
        Self { models, adapters }
    }

    /// All of it by digest.
    pub(crate) fn into_own(self) -> Own {
        let models = self.models.into_iter().map(|model| (model.manifest.digest(), model)).collect();
        let by_digest = |adapter: LocalAdapter| (adapter.manifest.digest, (adapter.path, adapter.manifest));
        Own { models, adapters: self.adapters.into_iter().map(by_digest).collect() }
    }
}

impl Cache {
    /// The cache, or an empty one where it cannot be read or was written by another version.
    fn read(file: &Path) -> Self {
        let cache = fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        cache.filter(|cache| cache.program == program()).unwrap_or_default()
    }

    /// Keeps the cache. Without it the next start is slower, and nothing else.
    fn write(&self, file: &Path) {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other);
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = folder.and(bytes).and_then(|bytes| durable::write(file, &bytes)) {
            tracing::warn!(path = %file.display(), %error, "digests of models cannot be kept for the next start");
        }
    }
}

fn program() -> String {
    format!("seedfarm {} engine {ENGINE_REVISION}", env!("CARGO_PKG_VERSION"))
}

/// The folder or file itself where it is a model, or else those in it that are or could be.
fn model_folders(folder: &Path) -> Vec<PathBuf> {
    if is_model(folder) {
        return vec![folder.to_owned()];
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "this folder of models cannot be read");
            return Vec::new();
        }
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_model(path)).collect();
    found.sort();
    found
}

/// Whether this is a folder with an index, or a file that calls itself a checkpoint.
fn is_model(path: &Path) -> bool {
    let checkpoint = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(CHECKPOINT));
    path.join(INDEX).is_file() || checkpoint && path.is_file()
}

fn examine(folder: &Path, old: &Cache) -> Option<CachedModel> {
    let mut files = Vec::new();
    if folder.is_file() {
        // What its people say of it stands beside it.
        for path in [folder.to_owned(), folder.with_extension("toml")] {
            mark_file(path, &mut files);
        }
    } else {
        mark_files(folder, DEPTH, &mut files);
    }
    files.sort();
    if let Some(cached) = old.folders.get(folder).filter(|cached| cached.files == files) {
        return Some(cached.clone());
    }
    tracing::info!(path = %folder.display(), files = files.len(), "digesting a model");
    match read_manifest(folder) {
        Ok(manifest) => Some(CachedModel { files, manifest }),
        Err(error) => {
            tracing::warn!(path = %folder.display(), error = chain(&error), "this model cannot be used");
            None
        }
    }
}

/// The adapters in `folders`, from the cache where their files are as they were.
fn adapters_in(folders: &[PathBuf], old: &Cache, new: &mut Cache) -> Vec<LocalAdapter> {
    let mut found: Vec<LocalAdapter> = Vec::new();
    for path in adapter_candidates(folders) {
        let Some(cached) = examine_adapter(&path, old) else { continue };
        new.adapters.insert(path.clone(), cached.clone());
        let Some(manifest) = cached.manifest else { continue };
        found.push(LocalAdapter { path, manifest });
    }
    found
}

fn examine_adapter(path: &Path, old: &Cache) -> Option<CachedAdapter> {
    let mut files = Vec::new();
    if path.is_dir() {
        mark_files(path, 0, &mut files);
    } else {
        mark_file(path.to_owned(), &mut files);
    }
    files.sort();
    if let Some(cached) = old.adapters.get(path).filter(|cached| cached.files == files) {
        return Some(cached.clone());
    }
    match describe_adapter(path) {
        Ok(manifest) => Some(CachedAdapter { files, manifest }),
        Err(error) => {
            tracing::warn!(path = %path.display(), error = chain(&error), "this adapter cannot be used");
            None
        }
    }
}

fn mark_files(folder: &Path, depth: usize, marks: &mut Vec<FileMark>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth > 0 {
                mark_files(&path, depth - 1, marks);
            }
        } else {
            mark_file(path, marks);
        }
    }
}

fn mark_file(path: PathBuf, marks: &mut Vec<FileMark>) {
    let Some(data) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else { return };
    let since = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    marks.push(FileMark { path, bytes: data.len(), modified_ns });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    impl Library {
        fn manifests(&self) -> Vec<ModelManifest> {
            self.models.iter().map(|model| model.manifest.clone()).collect()
        }

        fn adapter_manifests(&self) -> Vec<AdapterManifest> {
            self.adapters.iter().map(|adapter| adapter.manifest.clone()).collect()
        }
    }

    const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");

    /// A copy of the built-in model, to be changed.
    fn copy_of_the_model(to: &Path) {
        for entry in fs::read_dir(Path::new(MODELS).join("emoji-starter")).unwrap() {
            let from = entry.unwrap().path();
            let name = to.join(from.file_name().unwrap());
            fs::create_dir_all(to).unwrap();
            if from.is_dir() {
                fs::create_dir(&name).unwrap();
                for file in fs::read_dir(&from).unwrap() {
                    let file = file.unwrap().path();
                    fs::copy(&file, name.join(file.file_name().unwrap())).unwrap();
                }
            } else {
                fs::copy(&from, &name).unwrap();
            }
        }
    }

    fn scan(folder: &Path, cache: &Path) -> Result<Library, WorkerError> {
        Library::scan(&[folder.to_owned()], cache)
    }

    #[test]
    fn the_built_in_model_is_found_in_its_folder_and_in_the_one_above() {
        let folder = TempDir::new().unwrap();
        let above = scan(Path::new(MODELS), &folder.path().join("cache")).unwrap();
        let itself = scan(&Path::new(MODELS).join("emoji-starter"), &folder.path().join("cache")).unwrap();
        assert_eq!(above.manifests(), itself.manifests());
        assert_eq!(above.manifests()[0].name, "emoji-starter");
    }

    #[test]
    fn an_unchanged_model_is_not_digested_again_and_a_changed_one_is() {
        let folder = TempDir::new().unwrap();
        let (model, cache) = (folder.path().join("m"), folder.path().join("cache.json"));
        copy_of_the_model(&model);
        let first = scan(&model, &cache).unwrap().manifests();
        let mut remembered: Cache = serde_json::from_slice(&fs::read(&cache).unwrap()).unwrap();
        remembered.folders.get_mut(&model).unwrap().manifest.licence = Some("from the cache".into());
        remembered.write(&cache);
        let second = scan(&model, &cache).unwrap().manifests();
        assert_eq!(second[0].licence.as_deref(), Some("from the cache"));
        let config = model.join("tokenizer/tokenizer_config.json");
        fs::write(&config, "{}\n").unwrap();
        let third = scan(&model, &cache).unwrap().manifests();
        assert_eq!(third[0].licence, first[0].licence);
        assert_ne!(third[0].digest(), first[0].digest());
    }

    #[test]
    fn a_damaged_model_is_passed_over_and_no_model_at_all_is_an_error_with_the_folders() {
        let folder = TempDir::new().unwrap();
        copy_of_the_model(&folder.path().join("models/m"));
        fs::write(folder.path().join("models/m/unet/config.json"), "{").unwrap();
        let error = scan(&folder.path().join("models"), &folder.path().join("cache")).unwrap_err();
        assert!(error.to_string().contains("models"), "{error}");
        assert!(scan(&folder.path().join("nowhere"), &folder.path().join("cache")).is_err());
    }

    const SINGLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/models/single-sd1");

    fn copy_of_a_checkpoint(to: &Path) {
        for ending in ["safetensors", "toml"] {
            fs::copy(format!("{SINGLE}.{ending}"), to.join(format!("one.{ending}"))).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_in_one_file_is_found_in_its_folder_and_by_its_own_path() {
        let folder = TempDir::new().unwrap();
        let (models, cache) = (folder.path().join("models"), folder.path().join("cache.json"));
        fs::create_dir(&models).unwrap();
        copy_of_a_checkpoint(&models);
        // A file that only looks like one, as a LoRA does, spoils nothing.
        fs::write(models.join("a_lora.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
        let above = scan(&models, &cache).unwrap().manifests();
        let itself = scan(&models.join("one.safetensors"), &cache).unwrap().manifests();
        assert_eq!(above, itself);
        assert_eq!((above.len(), above[0].name.as_str()), (1, "single-sd1"));
    }

    #[test]
    fn what_stands_beside_a_checkpoint_is_read_again_when_it_changes() {
        let folder = TempDir::new().unwrap();
        let cache = folder.path().join("cache.json");
        copy_of_a_checkpoint(folder.path());
        let first = scan(folder.path(), &cache).unwrap().manifests();
        let beside = folder.path().join("one.toml");
        let text = fs::read_to_string(&beside).unwrap().replace("single-sd1", "another name");
        fs::write(&beside, text).unwrap();
        let second = scan(folder.path(), &cache).unwrap().manifests();
        assert_eq!(second[0].name, "another name");
        assert_eq!(second[0].digest(), first[0].digest());
    }

    /// A LoRA of one layer whose every number is `number`.
    fn write_lora(path: &Path, number: f32) {
        let name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q";
        let header = format!(
            r#"{{"{name}.lora_down.weight":{{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}},"{name}.lora_up.weight":{{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}}}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([number; 4].into_iter().flat_map(f32::to_le_bytes));
        fs::write(path, file).unwrap();
    }

    #[test]
    fn adapters_beside_models_are_found_by_content_and_digested_once() {
        let folder = TempDir::new().unwrap();
        let (models, cache) = (folder.path().join("models"), folder.path().join("cache.json"));
        copy_of_the_model(&models.join("m"));
        fs::create_dir(models.join("loras")).unwrap();
        let file = models.join("loras/felt.safetensors");
        write_lora(&file, 0.5);
        fs::write(models.join("broken.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\xff{}").unwrap();
        let library = scan(&models, &cache).unwrap();
        assert_eq!(library.manifests().len(), 1);
        let first = library.adapter_manifests();
        assert_eq!((first.len(), first[0].name.as_str()), (1, "felt"));
        assert_eq!(library.into_own().adapters[&first[0].digest].0, file);
        let mut remembered: Cache = serde_json::from_slice(&fs::read(&cache).unwrap()).unwrap();
        remembered.adapters.get_mut(&file).unwrap().manifest.as_mut().unwrap().family = Some("cached".into());
        remembered.write(&cache);
        let again = scan(&models, &cache).unwrap().adapter_manifests();
        assert_eq!(again[0].family.as_deref(), Some("cached"));
        write_lora(&file, 0.25);
        fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let changed = scan(&models, &cache).unwrap().adapter_manifests();
        assert_eq!(changed[0].family, first[0].family);
        assert_ne!(changed[0].digest, first[0].digest);
    }
}
