//! Packages: stored whole, replaced, removed with what nobody else has.

use std::collections::BTreeMap;

use seedfarm_core::{
    AdapterDigest, AdapterKind, AdapterManifest, FileDigest, Package, PackageDigest, PackageFile,
    PackageManifest,
};

use super::{Farm, manifest};

fn file(path: &str, content: &str) -> PackageFile {
    let bytes = content.len() as u64;
    PackageFile { path: path.parse().unwrap(), sha256: FileDigest::of_bytes(content.as_bytes()), bytes }
}

fn model(version: &str, files: Vec<PackageFile>) -> Package {
    Package { manifest: PackageManifest::Model(manifest("emoji", version)), entry: None, files }
}

#[tokio::test]
async fn a_package_comes_back_as_it_was_put_and_may_be_asked_for() {
    let farm = Farm::new().await;
    let lora = AdapterManifest {
        name: "felt".into(),
        kind: AdapterKind::Lora,
        digest: AdapterDigest::of_bytes(b"felt"),
        family: None,
        bytes: 4,
    };
    let files = vec![file("felt.safetensors", "felt")];
    let lora = Package {
        manifest: PackageManifest::Adapter(lora),
        entry: Some("felt.safetensors".parse().unwrap()),
        files,
    };
    let emoji = model("v1", vec![file("a/one", "1"), file("a/two", "22")]);
    for package in [&lora, &emoji, &emoji] {
        farm.store.put_package(package).await.unwrap();
        let stored = farm.store.package(&package.digest()).await.unwrap();
        assert_eq!(stored.as_ref(), Some(package));
    }
    let rows = farm.store.packages().await.unwrap();
    let shown: Vec<_> =
        rows.iter().map(|row| (row.kind.as_str(), row.name.as_str(), row.bytes, row.files)).collect();
    assert_eq!(shown, [("model", "emoji", 3, 2), ("lora", "felt", 4, 1)]);
    assert!(farm.store.model("emoji").await.unwrap().is_some());
    assert_eq!(farm.store.adapters().await.unwrap().len(), 1);
    let sizes = farm.store.package_sizes().await.unwrap();
    assert_eq!(sizes, BTreeMap::from([(lora.digest(), 4), (emoji.digest(), 3)]));
}

#[tokio::test]
async fn a_file_that_another_package_has_stays_when_one_is_removed() {
    let farm = Farm::new().await;
    let one = model("v1", vec![file("shared", "s"), file("own", "1"), file("copy", "1")]);
    let two = model("v2", vec![file("shared", "s"), file("own", "22")]);
    farm.store.put_package(&one).await.unwrap();
    farm.store.put_package(&two).await.unwrap();
    let size = |content: &'static str| {
        let store = farm.store.clone();
        async move { store.model_file_bytes(&FileDigest::of_bytes(content.as_bytes())).await.unwrap() }
    };
    assert_eq!(size("22").await, Some(2));
    let orphans = farm.store.remove_package(&one.digest()).await.unwrap();
    assert_eq!(orphans, BTreeMap::from([(FileDigest::of_bytes(b"1"), 1)]));
    assert_eq!((size("1").await, size("s").await), (None, Some(1)));
    assert_eq!(farm.store.package(&one.digest()).await.unwrap(), None);
    assert!(farm.store.model("emoji").await.unwrap().is_some(), "jobs may go on to ask for it");
    let stranger = PackageDigest::of_bytes(b"stranger");
    assert_eq!(farm.store.remove_package(&stranger).await.unwrap(), BTreeMap::new());
}
