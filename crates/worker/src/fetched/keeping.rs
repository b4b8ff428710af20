//! From files that were verified to a package that is whole.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use seedfarm_core::{Package, PackageFile, PackageManifest, canonical};
use seedfarm_engine::{describe_adapter, read_manifest};

use super::fault::{FetchFault, at};
use super::partial::sha256_of;
use super::{Fetched, Turn, open_lock};
use crate::durable;
use crate::renderer::chain;

impl Fetched {
    /// Whether a file is there and still what its name says; one that is not is removed.
    pub(super) fn has_file(&self, file: &PackageFile) -> Result<bool, FetchFault> {
        let path = self.file(&file.sha256);
        match sha256_of(&path) {
            Ok(actual) if actual == file.sha256 => Ok(true),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a fetched file is damaged and is fetched again");
                fs::remove_file(&path).map_err(at(&path))?;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Puts a package together from its files, makes sure that it is what it was added as, and only then
    /// lets it count.
    pub(super) fn keep(&self, _turn: &Turn, package: &Package) -> Result<(), FetchFault> {
        let digest = package.digest();
        let folder = self.folder(&digest);
        // Left by a process that was killed, or set aside as damaged.
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&folder)(error)),
            _ => {}
        }
        let linked = self.link(&folder, package).map_err(at(&folder));
        if let Err(fault) = linked.and_then(|()| expect_same(&folder, package)) {
            // What is wrong must not stay; that it cannot be removed is told by the next try.
            let _ = fs::remove_dir_all(&folder);
            return Err(fault);
        }
        let lock = self.lock(&digest);
        // It was not used yet, but is not to leave before what was.
        open_lock(&lock).and_then(|lock| lock.set_modified(SystemTime::now())).map_err(at(&lock))?;
        let description = self.description(&digest);
        durable::write(&description, canonical::to_string(package).as_bytes()).map_err(at(&description))
    }

    fn link(&self, folder: &Path, package: &Package) -> io::Result<()> {
        for file in &package.files {
            let path = folder.join(file.path.as_str());
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::hard_link(self.file(&file.sha256), path)?;
        }
        Ok(())
    }
}

/// Reads what lies in `folder` as the engine does and compares.
fn expect_same(folder: &Path, package: &Package) -> Result<(), FetchFault> {
    let path = package.entry.as_ref().map_or(folder.to_owned(), |entry| folder.join(entry.as_str()));
    let found = match &package.manifest {
        PackageManifest::Model(_) => read_manifest(&path).map(|found| Some(PackageManifest::Model(found))),
        PackageManifest::Adapter(_) => {
            describe_adapter(&path).map(|found| found.map(PackageManifest::Adapter))
        }
    };
    let other = |found: String| FetchFault::OtherModel { wanted: package.digest(), found };
    match found {
        Ok(Some(found)) if found.is_same_as(&package.manifest) => Ok(()),
        Ok(Some(found)) if found.digest() == package.digest() => {
            Err(other("the same with another description".to_owned()))
        }
        Ok(Some(found)) => Err(other(found.digest().to_string())),
        Ok(None) => Err(other("no model and no adapter".to_owned())),
        Err(error) => Err(other(format!("nothing that can be used ({})", chain(&error)))),
    }
}
