//! Adapters on this machine, for rendering without a farm.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seedfarm_core::plan::Settings;
use seedfarm_core::{AdapterDigest, AdapterKind, AdapterManifest};
use seedfarm_engine::describe_adapter;
use seedfarm_worker::adapter_candidates;

use crate::failure::Failure;

/// Largest textual inversion, in bytes: each small file may hold the word that is looked for.
const MAX_EMBEDDING_BYTES: u64 = 4 << 20;
/// Most names that a refusal lists.
const LISTED: usize = 20;

/// Adapters that a request names.
#[derive(Debug, Default)]
pub struct LocalAdapters {
    /// What they are.
    pub manifests: Vec<AdapterManifest>,
    /// Where they are.
    pub paths: HashMap<AdapterDigest, PathBuf>,
}

impl LocalAdapters {
    /// Finds the adapters that `settings` name by path, name or digest. Only files that may be meant are
    /// digested. In `settings`, a path is exchanged for its digest.
    ///
    /// # Errors
    /// An adapter that is not there, or cannot be used.
    pub fn named_in(settings: &mut Settings, folders: &[PathBuf]) -> Result<Self> {
        let mut found = Self::default();
        let loras = settings.loras.iter_mut().flatten().map(|lora| (AdapterKind::Lora, &mut lora.name));
        let embeddings = settings.embeddings.iter_mut().flatten().map(|name| (AdapterKind::Embedding, name));
        let controls = settings.controls.iter_mut().flatten();
        let controls = controls.map(|control| (AdapterKind::Control, &mut control.name));
        let named: Vec<(AdapterKind, &mut String)> = loras.chain(embeddings).chain(controls).collect();
        if named.is_empty() {
            return Ok(found);
        }
        let candidates = adapter_candidates(folders);
        for (kind, name) in named {
            match Path::new(name.as_str()) {
                path if is_path(name) && path.exists() => *name = found.add(kind, path)?,
                _ => found.search(kind, name, &candidates)?,
            }
        }
        Ok(found)
    }

    /// Adds the adapter of `kind` in a file or folder; answers its digest.
    fn add(&mut self, kind: AdapterKind, path: &Path) -> Result<String> {
        let described = describe(path)?.filter(|manifest| manifest.kind == kind);
        let manifest = described.ok_or_else(|| {
            let message = format!("{} is no {}", path.display(), kind.as_str());
            Failure::usage("NOT_AN_ADAPTER", message)
        })?;
        let digest = manifest.digest.to_string();
        self.paths.insert(manifest.digest, path.to_owned());
        self.manifests.push(manifest);
        Ok(digest)
    }

    /// Adds those of `candidates` that may be called `name`.
    fn search(&mut self, kind: AdapterKind, name: &str, candidates: &[PathBuf]) -> Result<()> {
        let by_digest = name.parse::<AdapterDigest>().is_ok();
        let means = |manifest: &AdapterManifest| {
            manifest.kind == kind && (manifest.name == name || manifest.digest.to_string() == name)
        };
        let may_be = |path: &&PathBuf| {
            by_digest || stem(path) == name || (kind == AdapterKind::Embedding && is_small(path))
        };
        let before = self.manifests.len();
        for path in candidates.iter().filter(may_be) {
            if let Some(manifest) = describe(path)?.filter(means) {
                self.paths.insert(manifest.digest, path.clone());
                self.manifests.push(manifest);
            }
        }
        if self.manifests.len() > before { Ok(()) } else { Err(unknown(kind, name, candidates).into()) }
    }
}

fn describe(path: &Path) -> Result<Option<AdapterManifest>> {
    describe_adapter(path).with_context(|| format!("the adapter in {} cannot be used", path.display()))
}

fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".safetensors")
}

fn is_small(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() <= MAX_EMBEDDING_BYTES)
}

fn stem(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn unknown(kind: AdapterKind, name: &str, candidates: &[PathBuf]) -> Failure {
    let kind = kind.as_str();
    let stems: Vec<String> = candidates.iter().take(LISTED).map(|path| stem(path)).collect();
    let known = match stems.as_slice() {
        [] => "there is none beside the models; give its path, or its folder with --models".to_owned(),
        stems => format!("beside the models lie {}", stems.join(", ")),
    };
    Failure::usage("UNKNOWN_ADAPTER", format!("the {kind} '{name}' is unknown; {known}"))
}
