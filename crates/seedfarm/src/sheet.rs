//! Contact sheets from picture files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seedfarm_picture::Picture;

use crate::client::download::write_whole;

/// Most pictures on one sheet, so that they stay large enough to be seen.
pub const MOST: usize = 256;

/// Writes a sheet of the first [`MOST`] of these files, in their order.
///
/// # Errors
/// If a file cannot be read, or the sheet cannot be written.
pub fn write(files: &[PathBuf], sheet: &Path) -> Result<()> {
    let pictures = files.iter().take(MOST).map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    let picture = seedfarm_picture::contact_sheet(&pictures)?;
    write_whole(sheet, &seedfarm_picture::encode_plain(&picture)?)
}

fn read(file: &Path) -> Result<Picture> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    seedfarm_picture::decode(&bytes).with_context(|| format!("{} cannot be read", file.display()))
}
