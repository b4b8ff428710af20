//! The folder alone: what is whole, held, resumed, refused and evicted.

use std::fs;
use std::path::Path;

use seedfarm_core::{FileDigest, Package, PackageDigest, PackageFile, PackageManifest};
use seedfarm_engine::{model_files, read_manifest};
use tempfile::TempDir;

use super::Fetched;
use super::fault::FetchFault;
use super::partial::Partial;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/parity/models");

fn open(folder: &TempDir, limit: u64) -> Fetched {
    Fetched::open(folder.path().to_owned(), limit).unwrap()
}

/// A small model as it was added.
fn package(name: &str) -> Package {
    let path = Path::new(MODELS).join(name);
    let list = model_files(&path).unwrap();
    let file = |name: &String| {
        let bytes = fs::read(list.root.join(name)).unwrap();
        let (sha256, bytes) = (FileDigest::of_bytes(&bytes), bytes.len() as u64);
        PackageFile { path: name.parse().unwrap(), sha256, bytes }
    };
    Package {
        manifest: PackageManifest::Model(read_manifest(&path).unwrap()),
        entry: list.entry.as_ref().map(|entry| entry.parse().unwrap()),
        files: list.files.iter().map(file).collect(),
    }
}

/// Brings a model in as a download does, without the network.
fn bring(fetched: &Fetched, name: &str, package: &Package) -> Result<(), FetchFault> {
    let turn = fetched.turn().unwrap().expect("nobody else fetches");
    fetched.make_room(&turn, package)?;
    let root =
        if package.entry.is_some() { Path::new(MODELS).to_owned() } else { Path::new(MODELS).join(name) };
    for file in &package.files {
        if fetched.has_file(file)? {
            continue;
        }
        let mut partial = Partial::open(fetched, file)?;
        let bytes = fs::read(root.join(file.path.as_str())).unwrap();
        partial.append(&bytes[partial.done() as usize..])?;
        partial.finish()?;
    }
    fetched.keep(&turn, package)
}

fn on_disk(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_model_is_there_when_it_is_whole_and_the_engine_reads_it_from_its_folder() {
    let folder = TempDir::new().unwrap();
    let fetched = open(&folder, u64::MAX);
    for name in ["tiny-sd1", "single-sd1.safetensors"] {
        let package = package(name);
        assert_eq!(fetched.package(&package.digest()), None);
        bring(&fetched, name, &package).unwrap();
        let kept = fetched.package(&package.digest()).unwrap();
        assert_eq!(read_manifest(&kept.path).unwrap().digest().to_string(), package.digest().to_string());
    }
    assert_eq!(fetched.digests().unwrap().len(), 2);
    assert_eq!(on_disk(&folder.path().join("partial")), 0);
}

#[test]
fn a_download_goes_on_where_it_stopped_and_damage_is_thrown_away() {
    let folder = TempDir::new().unwrap();
    let fetched = open(&folder, u64::MAX);
    let file = PackageFile { path: "a".parse().unwrap(), sha256: FileDigest::of_bytes(b"abcdef"), bytes: 6 };
    Partial::open(&fetched, &file).unwrap().append(b"abc").unwrap();
    let mut again = Partial::open(&fetched, &file).unwrap();
    assert_eq!(again.done(), 3);
    again.append(b"def").unwrap();
    assert!(again.is_complete());
    again.finish().unwrap();
    assert!(fetched.has_file(&file).unwrap());
    fs::write(fetched.file(&file.sha256), b"abcdeX").unwrap();
    assert!(!fetched.has_file(&file).unwrap(), "a file that was damaged since is not used");

    let mut wrong = Partial::open(&fetched, &file).unwrap();
    wrong.append(b"abcdeX").unwrap();
    let fault = wrong.finish().unwrap_err();
    assert!(
        matches!(fault, FetchFault::Damaged { .. }) && fault.to_string().contains(&file.sha256.to_string())
    );
    let mut long = Partial::open(&fetched, &file).unwrap();
    assert_eq!(long.done(), 0, "the damaged one is gone");
    assert!(matches!(long.append(b"abcdefg").unwrap_err(), FetchFault::TooLong { .. }));
    fs::write(fetched.partial(&file.sha256), b"longer than it may be").unwrap();
    assert_eq!(Partial::open(&fetched, &file).unwrap().done(), 0);
}

#[test]
fn files_that_are_another_model_than_they_were_added_as_are_refused_and_leave_no_package() {
    let folder = TempDir::new().unwrap();
    let fetched = open(&folder, u64::MAX);
    let (one, other) = (package("tiny-sd1"), package("tiny-sd2"));
    let lie = Package { manifest: other.manifest.clone(), ..one.clone() };
    assert!(matches!(bring(&fetched, "tiny-sd1", &lie).unwrap_err(), FetchFault::OtherModel { .. }));
    let PackageManifest::Model(mut manifest) = one.manifest.clone() else { panic!("it is a model") };
    manifest.noise_schedule.beta_end *= 2.0;
    let schedule = Package { manifest: PackageManifest::Model(manifest), ..one.clone() };
    assert!(matches!(bring(&fetched, "tiny-sd1", &schedule).unwrap_err(), FetchFault::OtherModel { .. }));
    assert!(fetched.digests().unwrap().is_empty());
    let renamed = Package { manifest: one.manifest.clone().renamed("another name".into()), ..one };
    bring(&fetched, "tiny-sd1", &renamed).unwrap();
}

#[test]
fn models_make_room_within_the_limit_unless_they_are_held() {
    let folder = TempDir::new().unwrap();
    let (one, two) = (package("tiny-sd1"), package("tiny-sd2"));
    let limit = one.bytes().max(two.bytes());
    let fetched = open(&folder, limit);
    bring(&fetched, "tiny-sd1", &one).unwrap();
    let hold = fetched.hold(&one.digest()).unwrap().expect("it is there");
    let second_of_the_same = fetched.hold(&one.digest()).unwrap();
    assert!(second_of_the_same.is_some(), "several may hold it");
    drop(second_of_the_same);
    let fault = bring(&fetched, "tiny-sd2", &two).unwrap_err();
    assert!(matches!(fault, FetchFault::NoRoom(_)), "{fault}");
    assert!(fetched.package(&one.digest()).is_some());
    drop(hold);
    bring(&fetched, "tiny-sd2", &two).unwrap();
    assert_eq!(fetched.digests().unwrap().into_iter().collect::<Vec<_>>(), [two.digest()]);
    assert!(fetched.hold(&one.digest()).unwrap().is_none());
    assert!(on_disk(&folder.path().join("files")) <= limit);
    assert!(!folder.path().join("models").join(one.digest().to_string()).exists());
}

#[test]
fn one_process_fetches_at_a_time_and_the_next_takes_over_what_it_left() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (open(&folder, u64::MAX), open(&folder, u64::MAX));
    let turn = first.turn().unwrap();
    assert!(turn.is_some() && second.turn().unwrap().is_none());
    let package = package("tiny-sd1");
    let file = &package.files[0];
    Partial::open(&first, file).unwrap().append(&[0]).unwrap();
    drop(turn);
    let mut partial = Partial::open(&second, file).unwrap();
    assert_eq!(partial.done(), 1, "what the first left is taken up");
    partial.append(&vec![0; file.bytes as usize - 1]).unwrap();
    assert!(matches!(partial.finish().unwrap_err(), FetchFault::Damaged { .. }));
    bring(&second, "tiny-sd1", &package).unwrap();
    assert!(first.package(&package.digest()).is_some(), "it is there for both");
}

#[test]
fn a_model_that_is_set_aside_or_incomplete_counts_as_absent() {
    let folder = TempDir::new().unwrap();
    let fetched = open(&folder, u64::MAX);
    let package = package("tiny-sd1");
    bring(&fetched, "tiny-sd1", &package).unwrap();
    fs::remove_file(folder.path().join("models").join(package.digest().to_string()).join("unet/config.json"))
        .unwrap();
    assert_eq!(fetched.package(&package.digest()), None);
    bring(&fetched, "tiny-sd1", &package).unwrap();
    fetched.condemn(&package.digest());
    assert!(fetched.digests().unwrap().is_empty() && fetched.hold(&package.digest()).unwrap().is_none());
    let stranger = PackageDigest::of_bytes(b"stranger");
    assert!(fetched.hold(&stranger).unwrap().is_none());
}
