//! A real folder on this machine's disk.

use std::path::PathBuf;

use bytes::Bytes;
use seedfarm_blob::{Blob, BlobError, BlobLocation, Stored};
use seedfarm_core::ArtifactDigest;
use tempfile::TempDir;

const BYTES: Bytes = Bytes::from_static(b"abc");

/// SHA-256 of `abc` (FIPS 180-4).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn digest() -> ArtifactDigest {
    ArtifactDigest::of_bytes(&BYTES)
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("ba/78").join(ABC)
}

async fn open(folder: &TempDir) -> Blob {
    Blob::open(&BlobLocation::Folder(folder.path().into())).await.expect("a temporary folder is writable")
}

fn folder() -> TempDir {
    TempDir::new().expect("the system has a folder for temporary files")
}

#[tokio::test]
async fn bytes_come_back_under_their_digest_and_lie_two_folders_deep() {
    let folder = folder();
    let blob = open(&folder).await;
    assert_eq!(blob.get(&digest()).await.unwrap(), None);
    assert!(!blob.contains(&digest()).await.unwrap());
    assert_eq!(blob.put(&digest(), BYTES).await.unwrap(), Stored::New);
    assert_eq!(blob.put(&digest(), BYTES).await.unwrap(), Stored::Known);
    assert_eq!(blob.get(&digest()).await.unwrap(), Some(BYTES));
    assert_eq!(std::fs::read(file_in(&folder)).unwrap(), b"abc");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["ba"]);
}

#[tokio::test]
async fn bytes_that_are_not_what_their_digest_says_are_refused() {
    let folder = folder();
    let blob = open(&folder).await;
    let error = blob.put(&digest(), Bytes::from_static(b"abd")).await.unwrap_err();
    assert!(matches!(error, BlobError::DigestMismatch { .. }));
    assert!(error.to_string().contains(ABC), "{error}");
    assert!(!blob.contains(&digest()).await.unwrap());
}

#[tokio::test]
async fn a_damaged_file_counts_as_absent_and_is_mended_by_the_next_put() {
    let folder = folder();
    let blob = open(&folder).await;
    for damage in [b"abd".as_slice(), b"", b"abcd"] {
        blob.put(&digest(), BYTES).await.unwrap();
        std::fs::write(file_in(&folder), damage).unwrap();
        assert_eq!(blob.get(&digest()).await.unwrap(), None);
        assert_eq!(blob.put(&digest(), BYTES).await.unwrap(), Stored::New);
        assert_eq!(blob.get(&digest()).await.unwrap(), Some(BYTES));
    }
}

#[tokio::test]
async fn many_puts_of_one_digest_at_once_all_succeed() {
    let folder = folder();
    let blob = open(&folder).await;
    let puts = (0..16).map(|_| {
        let blob = blob.clone();
        tokio::spawn(async move { blob.put(&digest(), BYTES).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    assert_eq!(blob.get(&digest()).await.unwrap(), Some(BYTES));
    assert_eq!(std::fs::read_dir(folder.path().join("ba/78")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_place_inside_a_file_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let error = Blob::open(&BlobLocation::Folder(path.join("blobs"))).await.unwrap_err();
    assert!(error.to_string().contains("file/blobs"), "{error}");
}

#[cfg(not(feature = "s3"))]
#[tokio::test]
async fn a_bucket_is_refused_with_the_line_that_builds_it_in() {
    let error = Blob::open(&"s3://pictures/farm".parse().unwrap()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("s3://pictures/farm") && text.contains("--features s3"), "{text}");
}
