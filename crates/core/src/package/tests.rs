//! Packages that are refused, and paths that never leave their folder.

use std::path::{Component, Path};

use proptest::prelude::*;

use super::*;
use crate::adapter::AdapterKind;
use crate::digest::AdapterDigest;

fn path(text: &str) -> PackagePath {
    text.parse().unwrap()
}

fn file(path_text: &str, bytes: u64) -> PackageFile {
    PackageFile { path: path(path_text), sha256: FileDigest::of_bytes(path_text.as_bytes()), bytes }
}

fn package(files: Vec<PackageFile>) -> Package {
    let manifest = AdapterManifest {
        name: "felt".into(),
        kind: AdapterKind::Lora,
        digest: AdapterDigest::of_bytes(b"felt"),
        family: None,
        bytes: 1,
    };
    Package { manifest: PackageManifest::Adapter(manifest), entry: None, files }
}

#[test]
fn paths_as_models_have_them_are_taken() {
    for text in
        ["model_index.json", "unet/diffusion_pytorch_model-00001-of-00002.safetensors", "My LoRA (v2).toml"]
    {
        assert_eq!(path(text).as_str(), text);
    }
}

#[test]
fn hostile_paths_are_refused_with_the_reason() {
    let long = "a".repeat(limits::MAX_MODEL_PATH_BYTES + 1);
    let deep = ["a"; limits::MAX_MODEL_PATH_DEPTH + 1].join("/");
    for (text, reason) in [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../../etc/passwd", "leads out"),
        ("unet/../../x", "leads out"),
        ("./x", "leads out"),
        ("unet//x", "empty name"),
        ("unet/", "empty name"),
        (".ssh/authorized_keys", "hidden"),
        ("C:\\x", "not allowed"),
        ("a\\..\\b", "not allowed"),
        ("a\0b", "not allowed"),
        ("a\nb", "not allowed"),
        ("é.json", "not allowed"),
        ("~root/x", "not allowed"),
        ("x.", "loose end"),
        ("con.json", "Windows"),
        (long.as_str(), "too long"),
        (deep.as_str(), "too deep"),
    ] {
        let error = text.parse::<PackagePath>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
        assert!(serde_json::from_value::<PackagePath>(text.into()).is_err());
    }
}

#[test]
fn a_pickle_is_refused_by_its_ending() {
    for text in ["unet/diffusion_pytorch_model.bin", "a.CKPT", "b.pt"] {
        assert!(matches!(text.parse::<PackagePath>(), Err(PackageFault::Pickle { .. })), "{text}");
    }
}

#[test]
fn a_package_over_a_limit_is_refused_by_that_limit() {
    let none = package(Vec::new()).check();
    assert_eq!(none, Err(PackageFault::NoFiles));
    let many = (0..=limits::MAX_PACKAGE_FILES).map(|n| file(&format!("f{n}"), 1)).collect();
    assert_eq!(
        package(many).check(),
        Err(PackageFault::TooManyFiles { given: limits::MAX_PACKAGE_FILES + 1 })
    );
    let large = package(vec![file("a", limits::MAX_MODEL_FILE_BYTES + 1)]).check();
    assert!(matches!(large, Err(PackageFault::FileTooLarge { .. })));
    let all = (0..5).map(|n| file(&format!("f{n}"), limits::MAX_MODEL_FILE_BYTES)).collect();
    assert!(matches!(package(all).check(), Err(PackageFault::TooLarge { .. })));
    let endless = vec![file("a", u64::MAX), file("b", u64::MAX)];
    assert!(package(endless).check().is_err(), "sums do not wrap");
}

#[test]
fn files_that_would_cover_one_another_are_refused() {
    let twice = package(vec![file("UNet/x", 1), file("unet/X", 1)]).check();
    assert!(matches!(twice, Err(PackageFault::TwiceThere { .. })));
    let inside = package(vec![file("a", 1), file("A/b", 1)]).check();
    assert!(matches!(inside, Err(PackageFault::InsideAFile { .. })));
    let mut other = file("b", 2);
    other.sha256 = file("a", 1).sha256;
    assert!(matches!(package(vec![file("a", 1), other]).check(), Err(PackageFault::TwoSizes { .. })));
    let entry = Package { entry: Some(path("c")), ..package(vec![file("a", 1)]) };
    assert!(matches!(entry.check(), Err(PackageFault::NoEntry { .. })));
}

#[test]
fn a_name_that_cannot_be_stored_is_refused() {
    for name in ["", " ", "a\nb", &"n".repeat(limits::MAX_NAME_BYTES + 1)] {
        let mut package = package(vec![file("a", 1)]);
        package.manifest = package.manifest.renamed(name.to_owned());
        assert!(matches!(package.check(), Err(PackageFault::BadText { .. })), "{name:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_taken_stays_below_the_folder_it_is_joined_to(text in "(\\.|/|[a-zA-Z0-9 _-]|\\PC){0,40}") {
        if let Ok(path) = text.parse::<PackagePath>() {
            let joined = Path::new("/cache").join(path.as_str());
            prop_assert!(joined.starts_with("/cache") && joined != Path::new("/cache"));
            let normal = joined.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
            prop_assert!(normal, "{joined:?}");
            prop_assert!(!path.as_str().contains(['\\', ':', '\0', '~']));
        }
    }

    #[test]
    fn parts_cover_a_file_once(bytes in 0..limits::MAX_MODEL_FILE_BYTES) {
        let count = parts(bytes);
        let sum: u64 = (0..count).map(|part| part_bytes(bytes, part)).sum();
        prop_assert_eq!(sum, bytes);
        prop_assert_eq!(part_bytes(bytes, count), 0);
        prop_assert!((0..count).all(|part| part_bytes(bytes, part) > 0));
    }
}
