//! Fetching what a job made: every file verified, and none fetched twice.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::StreamExt;
use seedfarm_core::limits::MAX_ARTIFACT_BYTES;
use seedfarm_core::{ArtifactDigest, ImageId, PixelDigest};
use seedfarm_proto::v1;
use tonic::Code;

use crate::client::Farm;
use crate::failure::Failure;

/// Files under way at a time.
const AT_A_TIME: usize = 8;
/// Images asked for in one listing.
const PAGE: u32 = 1000;

/// One image of a job, and its file.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What the farm knows of it.
    pub image: v1::Image,
    /// Where its file is, or would be.
    pub path: PathBuf,
    /// How it came there.
    pub how: How,
}

/// How a file came to be where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was fetched and verified now.
    Fetched,
    /// It was there already, with the right bytes.
    Kept,
    /// The farm has its recipe, but no longer its bytes.
    Gone,
}

/// Fetches every image that the job has so far into `out`, as `<index>-<seed>.png`.
///
/// `seen` is told of each, in order of index. A file that is there already with the right bytes is kept.
///
/// # Errors
/// If the farm fails, a file cannot be written, or bytes are not those that their digest names.
pub async fn job(
    farm: &Farm,
    job: &v1::Job,
    out: &Path,
    mut seen: impl FnMut(&Fetched),
) -> Result<Vec<Fetched>> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let digits = job.total.saturating_sub(1).to_string().len();
    let mut all = Vec::new();
    let mut next = Some(0);
    while let Some(from_index) = next {
        let request = v1::ListImagesRequest { job_id: job.id.clone(), from_index, limit: PAGE };
        let page = farm.jobs().list_images(request).await?.into_inner();
        next = page.next_index;
        let files = page.images.into_iter().map(|image| one(farm, image, out, digits));
        let mut files = futures::stream::iter(files).buffered(AT_A_TIME);
        while let Some(fetched) = files.next().await {
            let fetched = fetched?;
            seen(&fetched);
            all.push(fetched);
        }
    }
    Ok(all)
}

async fn one(farm: &Farm, image: v1::Image, out: &Path, digits: usize) -> Result<Fetched> {
    let id: ImageId = image.id.parse()?;
    let digest: ArtifactDigest = image.artifact_digest.parse()?;
    let pixels: PixelDigest = image.pixel_digest.parse()?;
    let path = out.join(format!("{:0digits$}-{}.png", id.index, image.seed));
    if holds(&path, &digest)? {
        return Ok(Fetched { image, path, how: How::Kept });
    }
    let Some(bytes) = artifact(farm, &digest).await? else {
        return Ok(Fetched { image, path, how: How::Gone });
    };
    verify(&id, &bytes, &digest, &pixels)?;
    write_whole(&path, &bytes)?;
    Ok(Fetched { image, path, how: How::Fetched })
}

/// Whether the file is there with exactly these bytes.
fn holds(path: &Path, digest: &ArtifactDigest) -> Result<bool> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(ArtifactDigest::of_bytes(&bytes) == *digest),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The bytes with this digest, or `None` if the farm no longer has them.
///
/// # Errors
/// If the farm fails, or sends more than a picture file may hold.
pub async fn artifact(farm: &Farm, digest: &ArtifactDigest) -> Result<Option<Vec<u8>>> {
    let request = v1::FetchArtifactRequest { artifact_digest: digest.to_string() };
    let mut stream = match farm.jobs().fetch_artifact(request).await {
        Err(status) if status.code() == Code::NotFound => return Ok(None),
        answer => answer?.into_inner(),
    };
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        bytes.extend_from_slice(&message.chunk.unwrap_or_default().data);
        if bytes.len() > MAX_ARTIFACT_BYTES {
            let message =
                format!("{digest}: the coordinator sends more than the limit of {MAX_ARTIFACT_BYTES} bytes");
            return Err(Failure::failed("ARTIFACT_TOO_LARGE", message).into());
        }
    }
    Ok(Some(bytes))
}

fn verify(id: &ImageId, bytes: &[u8], digest: &ArtifactDigest, pixels: &PixelDigest) -> Result<()> {
    let wrong = |what: &str, found: String, expected: String| {
        let message = format!(
            "{id}: {what} {found}, not {expected}: the farm's storage is damaged; try 'seedfarm replay {id}'"
        );
        Failure::failed("DAMAGED_ARTIFACT", message)
    };
    let found = ArtifactDigest::of_bytes(bytes);
    if found != *digest {
        return Err(wrong("the file's SHA-256 is", found.to_string(), digest.to_string()).into());
    }
    let found = seedfarm_picture::decode(bytes).with_context(|| id.to_string())?.digest();
    if found != *pixels {
        return Err(wrong("the pixel digest is", found.to_string(), pixels.to_string()).into());
    }
    Ok(())
}

/// Writes a file so that it is either whole or not there.
///
/// # Errors
/// If it cannot be written, naming the file.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("part");
    let written = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        std::fs::remove_file(&aside).unwrap_or_default();
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("taken.png");
        std::fs::create_dir(&target).unwrap();
        assert!(write_whole(&target, b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_right_bytes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_whole(&path, b"abc").unwrap();
        assert!(holds(&path, &ArtifactDigest::of_bytes(b"abc")).unwrap());
        assert!(!holds(&path, &ArtifactDigest::of_bytes(b"abd")).unwrap());
        assert!(!holds(&folder.path().join("b.png"), &ArtifactDigest::of_bytes(b"abc")).unwrap());
    }
}
