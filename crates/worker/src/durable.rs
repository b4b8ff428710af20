//! Files that are there whole or not at all, and survive a power cut once written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file under another name, syncs it, gives it its name and syncs the folder.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(STAGED);
    let staged = Path::new(&staged);
    let written = write_synced(staged, bytes).and_then(|()| fs::rename(staged, path));
    if written.is_err() {
        // A disk that is full must not stay full of what could not be finished.
        let _ = fs::remove_file(staged);
    }
    written?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// What the names of unfinished files end with.
pub(crate) const STAGED: &str = ".part";

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes renames and removals in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
