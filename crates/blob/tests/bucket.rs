//! A real S3-compatible service, named by `SEEDFARM_TEST_S3_URL` (an existing bucket, such as
//! `s3://pictures/test`) and the usual `AWS_*` variables:
//! `cargo test --release -p seedfarm-blob --features s3 --test bucket`
#![cfg(feature = "s3")]

use bytes::Bytes;
use seedfarm_blob::{Blob, BlobError, BlobLocation, Stored};
use seedfarm_core::ArtifactDigest;

fn location() -> BlobLocation {
    let url = std::env::var("SEEDFARM_TEST_S3_URL");
    url.expect("SEEDFARM_TEST_S3_URL names a bucket").parse().expect("it is s3://bucket/prefix")
}

#[tokio::test]
async fn bytes_come_back_from_a_bucket_under_their_digest() {
    let blob = Blob::open(&location()).await.unwrap();
    let bytes = Bytes::from(format!("process {}", std::process::id()));
    let digest = ArtifactDigest::of_bytes(&bytes);
    assert_eq!(blob.get(&digest).await.unwrap(), None);
    assert_eq!(blob.put(&digest, bytes.clone()).await.unwrap(), Stored::New);
    assert_eq!(blob.put(&digest, bytes.clone()).await.unwrap(), Stored::Known);
    assert!(blob.contains(&digest).await.unwrap());
    assert_eq!(blob.get(&digest).await.unwrap(), Some(bytes));
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_refused_at_once() {
    let missing = "s3://seedfarm-no-such-bucket/test".parse().unwrap();
    let error = Blob::open(&missing).await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable { .. } | BlobError::Forbidden { .. }));
    assert!(error.to_string().contains("seedfarm-no-such-bucket"), "{error}");
}
