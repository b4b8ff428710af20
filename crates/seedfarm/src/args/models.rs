//! Where models lie, and what lies there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::ModelManifest;

use seedfarm_worker::adapter_candidates;

use crate::failure::Failure;

/// The environment variable with a list of folders, separated as in PATH.
const VARIABLE: &str = "SEEDFARM_MODELS";
/// The file that makes a folder a model.
const INDEX: &str = "model_index.json";
/// The models of the source tree from which this program was built.
const SOURCE_TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");

/// Folders to look for models in.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Models")]
pub struct ModelArgs {
    /// Folder of a model, or of several; may be repeated
    ///
    /// LoRAs and embeddings (.safetensors) and ControlNets (folders) lie beside the models, or in folders of
    /// their own there.
    ///
    /// Without it: the folders in SEEDFARM_MODELS (separated by colons); without those: ./models, models
    /// next to the program, and those of the source tree.
    #[arg(long = "models", value_name = "DIR")]
    pub folders: Vec<PathBuf>,
}

/// A model on this machine.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Its folder, or the file of a checkpoint.
    pub folder: PathBuf,
    /// What it is.
    pub manifest: ModelManifest,
}

impl ModelArgs {
    /// The model folders, each once, in order of search; a folder that was asked for and holds no model
    /// is an error.
    ///
    /// # Errors
    /// If a folder that was named is missing or holds no model.
    pub fn model_folders(&self) -> Result<Vec<PathBuf>> {
        let named = self.named();
        let mut found = Vec::new();
        for folder in &named {
            let models = models_in(folder);
            if models.is_empty() && adapter_candidates(std::slice::from_ref(folder)).is_empty() {
                return Err(no_model_in(folder).into());
            }
            found.extend(models);
        }
        if named.is_empty() {
            found.extend(default_folders().iter().flat_map(|folder| models_in(folder)));
        }
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|folder| seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())));
        Ok(found)
    }

    /// The model folders, of which there must be one.
    ///
    /// # Errors
    /// As [`Self::model_folders`], and if there is none.
    pub fn existing_folders(&self) -> Result<Vec<PathBuf>> {
        let folders = self.model_folders()?;
        if !folders.is_empty() {
            return Ok(folders);
        }
        let searched: Vec<String> = default_folders().iter().map(|dir| dir.display().to_string()).collect();
        let message = format!("no model in {}: give a folder with --models", searched.join(", "));
        Err(Failure::usage("NO_MODEL", message).into())
    }

    /// Every model, with its files digested; at least one. A copy of one that was found before, with the
    /// same name and weights, is left out.
    ///
    /// # Errors
    /// If a model cannot be read, or there is none.
    pub fn load(&self) -> Result<Vec<LocalModel>> {
        let found = self.existing_folders()?.into_iter().map(local_model);
        let mut models: Vec<LocalModel> = found.collect::<Result<_>>()?;
        let mut seen = std::collections::BTreeSet::new();
        models.retain(|model| seen.insert((model.manifest.name.clone(), model.manifest.digest())));
        Ok(models)
    }

    /// The folders that are searched for models and for adapters beside them, each once.
    pub fn search_folders(&self) -> Vec<PathBuf> {
        let named = self.named();
        let mut folders = if named.is_empty() { default_folders() } else { named };
        let mut seen = std::collections::BTreeSet::new();
        folders.retain(|folder| folder.canonicalize().is_ok_and(|path| seen.insert(path)));
        folders
    }

    fn named(&self) -> Vec<PathBuf> {
        if !self.folders.is_empty() {
            return self.folders.clone();
        }
        let listed = std::env::var_os(VARIABLE).unwrap_or_default();
        std::env::split_paths(&listed).filter(|folder| !folder.as_os_str().is_empty()).collect()
    }
}

/// The model that `wanted` names: a folder, a name or a digest; without a wish the only one there is.
///
/// # Errors
/// If there is no such model, or there are several and none was named.
pub fn choose(args: &ModelArgs, wanted: Option<&str>) -> Result<LocalModel> {
    let is_path = |path: &&Path| path.join(INDEX).is_file() || path.is_file() && path.extension().is_some();
    if let Some(path) = wanted.map(Path::new).filter(is_path) {
        return local_model(path.to_owned());
    }
    if let Some(path) = wanted.filter(|text| text.contains('/')) {
        return Err(no_model_in(Path::new(path)).into());
    }
    let models = args.load()?;
    let names: Vec<&str> = models.iter().map(|model| model.manifest.name.as_str()).collect();
    let names = names.join(", ");
    let fits = |model: &LocalModel| {
        wanted.is_none_or(|text| model.manifest.name == text || model.manifest.digest().to_string() == text)
    };
    let mut fitting = models.iter().filter(|model| fits(model));
    match (fitting.next(), fitting.next(), wanted) {
        (Some(model), None, _) | (Some(model), Some(_), Some(_)) => Ok(model.clone()),
        (Some(_), Some(_), None) => {
            let message = format!("there are several models: choose one with --model ({names})");
            Err(Failure::usage("MODEL_NOT_CHOSEN", message).into())
        }
        (None, _, wanted) => {
            let wanted = wanted.unwrap_or_default();
            let message =
                format!("model '{wanted}' is unknown: there are {names}; give its folder or --models");
            Err(Failure::usage("UNKNOWN_MODEL", message).into())
        }
    }
}

fn local_model(folder: PathBuf) -> Result<LocalModel> {
    let manifest = seedfarm_engine::read_manifest(&folder)
        .with_context(|| format!("the model in {} cannot be used", folder.display()))?;
    Ok(LocalModel { folder, manifest })
}

fn no_model_in(folder: &Path) -> Failure {
    let message = format!(
        "{} holds no model: a model is a folder in the layout that diffusers writes, with a {INDEX}, or a \
         checkpoint in one .safetensors file",
        folder.display()
    );
    Failure::usage("NO_MODEL", message)
}

/// `folder` itself if it is a model or a file, else the models right in it, by name. Of the files in it only
/// checkpoints are models: LoRAs and VAEs are called the same.
fn models_in(folder: &Path) -> Vec<PathBuf> {
    if folder.join(INDEX).is_file() || folder.is_file() {
        return vec![folder.to_owned()];
    }
    let is_model = |path: &PathBuf| {
        path.join(INDEX).is_file() || path.is_file() && seedfarm_engine::check_checkpoint(path).is_ok()
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_model).collect();
    models.sort();
    models
}

fn default_folders() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("models")));
    let source = Path::new(SOURCE_TREE).canonicalize().ok();
    [Some(PathBuf::from("models")), beside, source].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_models_gives_each_of_them_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(INDEX), "{}").unwrap();
        }
        std::fs::create_dir(folder.path().join("other")).unwrap();
        let args = ModelArgs { folders: vec![folder.path().to_owned(), folder.path().join("a")] };
        let found = args.model_folders().unwrap();
        assert_eq!(found, vec![folder.path().join("a"), folder.path().join("b")]);
    }

    #[test]
    fn checkpoints_in_one_file_are_models_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Path::new(SOURCE_TREE).join("../tests/parity/models/single-sd2");
        let path = folder.path().join("a.safetensors");
        std::fs::copy(checkpoint.with_extension("safetensors"), &path).unwrap();
        std::fs::copy(checkpoint.with_extension("toml"), folder.path().join("a.toml")).unwrap();
        std::fs::write(folder.path().join("lora.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
        std::fs::write(folder.path().join("old.ckpt"), b"\x80\x02").unwrap();
        let args = |path: &Path| ModelArgs { folders: vec![path.to_owned()] };
        let names = |args: ModelArgs| {
            args.load().unwrap().into_iter().map(|model| model.manifest.name).collect::<Vec<_>>()
        };
        assert_eq!(names(args(folder.path())), ["single-sd2"]);
        assert_eq!(names(args(&path)), ["single-sd2"]);
        let pickle = folder.path().join("old.ckpt");
        let error = choose(&ModelArgs::default(), pickle.to_str()).unwrap_err();
        assert!(format!("{error:#}").contains("is a pickle"), "{error:#}");
    }

    #[test]
    fn a_copy_of_a_model_in_a_second_folder_is_not_a_second_model() {
        let (source, copy) = (Path::new(SOURCE_TREE).join("emoji-starter"), tempfile::tempdir().unwrap());
        copy_folder(&source, copy.path());
        let args = ModelArgs { folders: vec![source.clone(), copy.path().to_owned()] };
        let found: Vec<PathBuf> = args.load().unwrap().into_iter().map(|model| model.folder).collect();
        assert_eq!(found, vec![source]);
        assert_eq!(choose(&args, None).unwrap().manifest.name, "emoji-starter");
    }

    fn copy_folder(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_folder(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    #[test]
    fn a_named_folder_without_a_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let args = ModelArgs { folders: vec![folder.path().to_owned()] };
        let text = args.model_folders().unwrap_err().to_string();
        assert!(text.contains("holds no model") && text.contains("model_index.json"), "{text}");
    }
}
