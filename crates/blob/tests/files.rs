//! Files in parts, on a real folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use seedfarm_blob::{Blob, BlobError, BlobLocation, FileStore, Soundness, Stored};
use seedfarm_core::limits::MODEL_PART_BYTES;
use seedfarm_core::{FileDigest, package};
use tempfile::TempDir;

async fn open(folder: &TempDir) -> FileStore {
    Blob::open(&BlobLocation::Folder(folder.path().into())).await.unwrap().files()
}

/// A file of a little more than one part, and its digest.
fn file() -> (Bytes, FileDigest) {
    let bytes: Vec<u8> = (0..MODEL_PART_BYTES + 1000).map(|n| (n % 251) as u8).collect();
    let digest = FileDigest::of_bytes(&bytes);
    (bytes.into(), digest)
}

fn part(bytes: &Bytes, number: u64) -> Bytes {
    let from = (number * MODEL_PART_BYTES) as usize;
    bytes.slice(from..from + package::part_bytes(bytes.len() as u64, number) as usize)
}

async fn put(store: &FileStore, digest: &FileDigest, bytes: &Bytes) {
    for number in 0..package::parts(bytes.len() as u64) {
        store.put_part(digest, number, part(bytes, number)).await.unwrap();
    }
}

async fn read(store: &FileStore, digest: &FileDigest, offset: u64) -> Vec<u8> {
    let pieces: Vec<Bytes> = store.read(digest, offset).await.unwrap().unwrap().try_collect().await.unwrap();
    pieces.concat()
}

fn whole(folder: &TempDir, digest: &FileDigest) -> PathBuf {
    let hex = digest.to_string();
    folder.path().join("models").join(&hex[..2]).join(hex)
}

#[tokio::test]
async fn a_file_is_there_when_it_is_sealed_and_can_be_read_from_any_byte_on() {
    let folder = TempDir::new().unwrap();
    let (store, (bytes, digest)) = (open(&folder).await, file());
    let length = bytes.len() as u64;
    put(&store, &digest, &bytes).await;
    assert_eq!(store.size(&digest).await.unwrap(), None, "nothing is visible before");
    let mut told = Vec::new();
    assert_eq!(store.seal(&digest, length, |done| told.push(done)).await.unwrap(), Stored::New);
    assert_eq!(told, [MODEL_PART_BYTES, length]);
    assert_eq!(store.size(&digest).await.unwrap(), Some(length));
    for offset in [0, 1, MODEL_PART_BYTES, length - 1, length, length + 1] {
        let rest = bytes.slice((offset.min(length) as usize)..);
        assert_eq!(read(&store, &digest, offset).await, rest, "from {offset}");
    }
    assert_eq!(store.parts(&digest, length).await.unwrap().len(), 0, "the parts are gone");
    assert_eq!(store.seal(&digest, length, |_| {}).await.unwrap(), Stored::Known);
}

#[tokio::test]
async fn an_upload_goes_on_with_the_parts_that_are_not_there_in_full() {
    let folder = TempDir::new().unwrap();
    let (store, (bytes, digest)) = (open(&folder).await, file());
    let length = bytes.len() as u64;
    store.put_part(&digest, 0, part(&bytes, 0)).await.unwrap();
    store.put_part(&digest, 1, Bytes::from_static(b"cut")).await.unwrap();
    assert_eq!(store.parts(&digest, length).await.unwrap().into_iter().collect::<Vec<_>>(), [0]);
    let error = store.seal(&digest, length, |_| {}).await.unwrap_err();
    assert!(matches!(error, BlobError::PartMissing { part: 1, .. }), "{error}");
    store.put_part(&digest, 1, part(&bytes, 1)).await.unwrap();
    assert_eq!(store.seal(&digest, length, |_| {}).await.unwrap(), Stored::New);
}

#[tokio::test]
async fn parts_that_do_not_make_the_file_are_refused_and_leave_nothing() {
    let folder = TempDir::new().unwrap();
    let (store, (bytes, digest)) = (open(&folder).await, file());
    let mut wrong = bytes.to_vec();
    wrong[7] ^= 1;
    put(&store, &digest, &wrong.into()).await;
    let error = store.seal(&digest, bytes.len() as u64, |_| {}).await.unwrap_err();
    assert!(
        matches!(error, BlobError::FileMismatch { .. }) && error.to_string().contains(&digest.to_string())
    );
    assert!(!whole(&folder, &digest).exists());
    assert_eq!(store.parts(&digest, bytes.len() as u64).await.unwrap().len(), 0);
}

#[tokio::test]
async fn damage_is_found_by_reading_and_a_removed_file_is_missing() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let (bytes, empty) = (Bytes::from_static(b"abc"), Bytes::new());
    let (digest, nothing) = (FileDigest::of_bytes(&bytes), FileDigest::of_bytes(&empty));
    put(&store, &digest, &bytes).await;
    store.seal(&digest, 3, |_| {}).await.unwrap();
    assert_eq!(store.seal(&nothing, 0, |_| {}).await.unwrap(), Stored::New, "a file may be empty");
    assert_eq!(store.verify(&nothing, |_| {}).await.unwrap(), Soundness::Sound);
    assert_eq!(store.verify(&digest, |_| {}).await.unwrap(), Soundness::Sound);
    std::fs::write(whole(&folder, &digest), b"abd").unwrap();
    let actual = FileDigest::of_bytes(b"abd");
    assert_eq!(store.verify(&digest, |_| {}).await.unwrap(), Soundness::Damaged { actual });
    store.remove(&digest).await.unwrap();
    store.remove(&digest).await.unwrap();
    assert_eq!(store.verify(&digest, |_| {}).await.unwrap(), Soundness::Missing);
}

#[tokio::test]
async fn parts_of_uploads_that_were_given_up_are_swept_by_age() {
    let folder = TempDir::new().unwrap();
    let (store, digest) = (open(&folder).await, FileDigest::of_bytes(b"abc"));
    store.put_part(&digest, 0, Bytes::from_static(b"abc")).await.unwrap();
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    assert_eq!(store.sweep(now - hour).await.unwrap(), 0);
    assert_eq!(store.sweep(now + hour).await.unwrap(), 1);
    assert_eq!(store.parts(&digest, 3).await.unwrap().len(), 0);
}
