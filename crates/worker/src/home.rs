//! The worker's own folder: `<data folder>/worker`, with its id, its outbox and what it knows of models.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use seedfarm_core::WorkerId;
use uuid::Uuid;

use crate::durable;
use crate::error::WorkerError;

/// The folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    id: WorkerId,
    /// Locked while it is open.
    _lock: File,
}

impl Home {
    /// Opens `<data_dir>/worker`, makes it where it is not there, and draws an id on the first start.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, WorkerError> {
        let path = folder(data_dir);
        fs::create_dir_all(&path).map_err(at(&path))?;
        let lock = lock(&path)?;
        let id = read_id(&path.join("id"))?;
        Ok(Self { path, id, _lock: lock })
    }

    /// The id, the same at every start.
    pub(crate) const fn id(&self) -> WorkerId {
        self.id
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where finished pictures wait.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }
}

/// A worker's own folder in its data folder.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("worker")
}

/// The file in which digests of models are kept between starts.
pub(crate) fn model_cache(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("models.json")
}

/// Where fetched models lie if nothing else is said.
pub(crate) fn fetched(data_dir: &Path) -> PathBuf {
    data_dir.join("worker/fetched")
}

fn lock(path: &Path) -> Result<File, WorkerError> {
    let file = path.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(at(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(WorkerError::DataFolderInUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(at(&file)(source)),
    }
}

fn read_id(path: &Path) -> Result<WorkerId, WorkerError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.trim();
            text.parse().map_err(|_| WorkerError::NotAnId { path: path.to_owned(), text: text.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = WorkerId::from_uuid(Uuid::new_v4());
            durable::write(path, format!("{id}\n").as_bytes()).map_err(at(path))?;
            Ok(id)
        }
        Err(error) => Err(at(path)(error)),
    }
}

/// Names the file or folder in an error of the system.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> WorkerError + '_ {
    move |source| WorkerError::DataFolder { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_keeps_its_id_over_restarts_and_shares_its_folder_with_nobody() {
        let folder = tempfile::TempDir::new().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let id = home.id();
        assert!(matches!(Home::open(folder.path()), Err(WorkerError::DataFolderInUse { .. })));
        drop(home);
        assert_eq!(Home::open(folder.path()).unwrap().id(), id);
    }

    #[test]
    fn an_id_that_cannot_be_read_is_named_and_not_overwritten() {
        let folder = tempfile::TempDir::new().unwrap();
        fs::create_dir(folder.path().join("worker")).unwrap();
        fs::write(folder.path().join("worker/id"), "me\n").unwrap();
        let error = Home::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("'me'") && error.contains("worker/id"), "{error}");
    }
}
