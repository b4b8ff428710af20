//! A model or an adapter on this machine, read and checked as it will be handed out.

use std::path::{Path, PathBuf};

use anyhow::Result;
use seedfarm_core::{FileDigest, Package, PackageFile, PackageManifest, PackagePath};
use seedfarm_engine::{
    FileList, adapter_files, describe_adapter, model_files, read_manifest, sha256_of_file,
};

use crate::failure::Failure;

/// The file that makes a folder a model.
const INDEX: &str = "model_index.json";

/// A package and the folder that its files lie in.
#[derive(Debug, Clone)]
pub struct LocalPackage {
    /// What it is.
    pub package: Package,
    /// What the paths of its files are below.
    pub root: PathBuf,
}

/// Reads a model or an adapter, checks all of it and digests every file.
///
/// # Errors
/// If it is none, cannot be used, or breaks a limit.
pub fn read(path: &Path, name: Option<String>, licence: Option<String>) -> Result<LocalPackage> {
    let (manifest, list) = describe(path)?;
    let manifest = with_licence(manifest, licence)?;
    let manifest = match name {
        Some(name) => manifest.renamed(name),
        None => manifest,
    };
    let entry = list.entry.as_deref().map(package_path).transpose()?;
    let files = list.files.iter().map(|file| digest(&list.root, file)).collect::<Result<_>>()?;
    let package = Package { manifest, entry, files };
    package.check().map_err(|fault| Failure::usage("MODEL_REFUSED", fault.to_string()))?;
    Ok(LocalPackage { package, root: list.root })
}

/// What lies at `path`, and which files it is made of. Whatever is no adapter is read as a model, so that a
/// refusal says what is wrong with it as one.
fn describe(path: &Path) -> Result<(PackageManifest, FileList)> {
    if !path.exists() {
        let message = format!("{} is not there", path.display());
        return Err(Failure::usage("NO_MODEL", message).into());
    }
    if !path.join(INDEX).is_file()
        && let Some(adapter) = describe_adapter(path)?
    {
        return Ok((PackageManifest::Adapter(adapter), adapter_files(path)?));
    }
    let list = model_files(path)?;
    Ok((PackageManifest::Model(read_manifest(path)?), list))
}

fn with_licence(manifest: PackageManifest, licence: Option<String>) -> Result<PackageManifest> {
    match (manifest, licence) {
        (manifest, None) => Ok(manifest),
        (PackageManifest::Model(mut manifest), licence) => {
            manifest.licence = licence;
            Ok(PackageManifest::Model(manifest))
        }
        (PackageManifest::Adapter(_), Some(_)) => {
            let message = "--licence is for models: the farm keeps no licence of adapters";
            Err(Failure::usage("BAD_ARGUMENT", message).into())
        }
    }
}

fn digest(root: &Path, file: &str) -> Result<PackageFile> {
    let path = package_path(file)?;
    let on_disk = root.join(file);
    let sha256 = FileDigest::from_bytes(*sha256_of_file(&on_disk)?.as_bytes());
    let bytes = std::fs::metadata(&on_disk)?.len();
    Ok(PackageFile { path, sha256, bytes })
}

fn package_path(text: &str) -> Result<PackagePath> {
    text.parse().map_err(|fault: seedfarm_core::package::PackageFault| {
        Failure::usage("MODEL_REFUSED", fault.to_string()).into()
    })
}
