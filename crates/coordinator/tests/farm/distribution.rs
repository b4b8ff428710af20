//! Models handed out: taken in by parts, told to workers that lack them, given to workers alone, refused where
//! they are not what they say.

use seedfarm_core::limits::MODEL_PART_BYTES;
use seedfarm_core::{FileDigest, Package, PackageFile, PackageManifest, canonical, package};
use seedfarm_proto::v1::session_request::Message as Ask;
use seedfarm_proto::v1::session_response::Message as Answer;
use seedfarm_proto::{CHUNK_BYTES, convert, error, v1};
use tokio_stream::iter;
use tonic::{Code, Status};

use crate::support::{CALM, Farm, manifest, spec, unique, within};
use crate::worker::{Worker, hello, json};

fn file(path: &str, bytes: &[u8]) -> PackageFile {
    let (sha256, length) = (FileDigest::of_bytes(bytes), bytes.len() as u64);
    PackageFile { path: path.parse().unwrap(), sha256, bytes: length }
}

/// A model without weights of this name, and its one file.
fn model(name: &str) -> (Package, Vec<u8>) {
    let bytes = format!("weights of {name}").into_bytes();
    let files = vec![file("unet/weights.safetensors", &bytes)];
    (Package { manifest: PackageManifest::Model(manifest(name)), entry: None, files }, bytes)
}

fn wire(file: &PackageFile) -> v1::ModelFile {
    v1::ModelFile { sha256: file.sha256.to_string(), bytes: file.bytes }
}

async fn put_part(farm: &Farm, file: &PackageFile, part: u64, data: &[u8]) -> Result<(), Status> {
    let mut named = Some(wire(file));
    let message = |data: &[u8]| v1::PutModelPartRequest {
        file: named.take(),
        part,
        chunk: Some(v1::Chunk { data: data.to_vec() }),
    };
    let messages: Vec<_> = data.chunks(CHUNK_BYTES).map(message).collect();
    farm.models().await.put_model_part(iter(messages)).await.map(drop)
}

async fn seal(farm: &Farm, file: &PackageFile) -> Result<(), Status> {
    let request = v1::SealModelFileRequest { file: Some(wire(file)) };
    let mut stream = farm.models().await.seal_model_file(request).await?.into_inner();
    let mut last = None;
    while let Some(message) = within(stream.message()).await? {
        last = Some(message);
    }
    assert!(last.unwrap().sealed);
    Ok(())
}

async fn send(farm: &Farm, file: &PackageFile, bytes: &[u8]) {
    for part in 0..package::parts(file.bytes) {
        let from = (part * MODEL_PART_BYTES) as usize;
        let to = from + package::part_bytes(file.bytes, part) as usize;
        put_part(farm, file, part, &bytes[from..to]).await.unwrap();
    }
    seal(farm, file).await.unwrap();
}

async fn add_json(farm: &Farm, package_json: String) -> Result<String, Status> {
    let request = v1::AddPackageRequest { package_json };
    farm.models().await.add_package(request).await.map(|answer| answer.into_inner().digest)
}

async fn add(farm: &Farm, package: &Package) -> Result<String, Status> {
    add_json(farm, canonical::to_string(package)).await
}

async fn add_model(farm: &Farm, name: &str) -> (Package, Vec<u8>) {
    let (package, bytes) = model(name);
    send(farm, &package.files[0], &bytes).await;
    add(farm, &package).await.unwrap();
    (package, bytes)
}

async fn packages(farm: &Farm) -> Vec<v1::ListedPackage> {
    farm.models().await.list_packages(v1::ListPackagesRequest {}).await.unwrap().into_inner().packages
}

async fn fetch(worker: &mut Worker, sha256: String, offset: u64) -> Result<Vec<u8>, Status> {
    let request = v1::FetchModelFileRequest { sha256, offset };
    let mut stream = worker.client.fetch_model_file(request).await?.into_inner();
    let mut file = Vec::new();
    while let Some(message) = within(stream.message()).await? {
        file.extend(message.chunk.unwrap().data);
    }
    Ok(file)
}

fn reason<T: std::fmt::Debug>(refused: Result<T, Status>) -> String {
    error::reason_of(&refused.unwrap_err()).unwrap()
}

async fn submit(farm: &Farm, model: &str) -> v1::Job {
    let request = convert::submission(spec(&["a red apple"], 1), model.into(), unique());
    farm.jobs().await.submit_job(request).await.unwrap().into_inner().job.unwrap()
}

/// A worker without models that fetches up to `bytes`.
async fn fetcher(farm: &Farm, n: u128, bytes: u64) -> Worker {
    let hello = v1::Hello { model_manifests_json: Vec::new(), fetches_bytes: bytes, ..hello(n) };
    let mut worker = Worker::greet(farm, hello).await;
    worker.welcome().await;
    worker.credit(1).await;
    worker
}

async fn wanted(worker: &mut Worker) -> Vec<String> {
    match worker.next().await {
        Answer::Wanted(wanted) => wanted.package_digests,
        other => panic!("{other:?} instead of Wanted"),
    }
}

#[tokio::test]
async fn a_model_is_seen_when_all_its_files_are_there_and_not_before() {
    let farm = Farm::start(CALM).await;
    let (package, bytes) = model("new");
    assert_eq!(reason(add(&farm, &package).await), "FILES_MISSING");
    assert_eq!(packages(&farm).await, Vec::new());
    send(&farm, &package.files[0], &bytes).await;
    assert_eq!(packages(&farm).await, Vec::new());
    let digest = add(&farm, &package).await.unwrap();
    assert_eq!(digest, package.digest().to_string());
    let listed = &packages(&farm).await[0];
    assert_eq!((listed.name.as_str(), listed.kind.as_str(), listed.files), ("new", "model", 1));
    submit(&farm, "new").await;
}

#[tokio::test]
async fn an_upload_that_was_cut_off_is_asked_only_for_what_is_missing() {
    let farm = Farm::start(CALM).await;
    let bytes: Vec<u8> = (0..MODEL_PART_BYTES + 10).map(|n| (n % 253) as u8).collect();
    let large = file("a", &bytes);
    put_part(&farm, &large, 1, &bytes[MODEL_PART_BYTES as usize..]).await.unwrap();
    let find = || async {
        let request = v1::FindModelFilesRequest { files: vec![wire(&large)] };
        farm.models().await.find_model_files(request).await.unwrap().into_inner().files.remove(0)
    };
    assert_eq!(find().await, v1::FoundModelFile { whole: false, parts: vec![1] });
    assert_eq!(reason(seal(&farm, &large).await), "PART_MISSING");
    put_part(&farm, &large, 0, &bytes[..MODEL_PART_BYTES as usize]).await.unwrap();
    seal(&farm, &large).await.unwrap();
    assert!(find().await.whole);
}

#[tokio::test]
async fn parts_and_files_that_are_not_what_they_say_are_refused() {
    let farm = Farm::start(CALM).await;
    let honest = file("a", b"honest");
    assert_eq!(reason(put_part(&farm, &honest, 0, b"short").await), "WRONG_PART");
    assert_eq!(reason(put_part(&farm, &honest, 1, b"honest").await), "WRONG_PART");
    put_part(&farm, &honest, 0, b"h0nest").await.unwrap();
    assert_eq!(reason(seal(&farm, &honest).await), "WRONG_DIGEST");
    let huge = PackageFile { bytes: u64::MAX, ..honest.clone() };
    assert_eq!(reason(put_part(&farm, &huge, 0, b"x").await), "FILE_TOO_LARGE");
    send(&farm, &honest, b"honest").await;
}

#[tokio::test]
async fn hostile_paths_and_descriptions_over_a_limit_are_refused_by_name() {
    let farm = Farm::start(CALM).await;
    let (package, bytes) = model("new");
    send(&farm, &package.files[0], &bytes).await;
    let honest = canonical::to_string(&package);
    for path in ["../../etc/passwd", "/etc/passwd", "unet/../../x", ".ssh/keys", "a\\\\b", "unet/x.bin", ""] {
        let hostile = honest.replace("unet/weights.safetensors", path);
        assert_ne!(hostile, honest);
        let refused = add_json(&farm, hostile).await.unwrap_err();
        assert_eq!(
            (refused.code(), error::reason_of(&refused).as_deref()),
            (Code::InvalidArgument, Some("PACKAGE_REFUSED"))
        );
    }
    let many = Package { files: vec![package.files[0].clone(); 2], ..package.clone() };
    assert_eq!(reason(add(&farm, &many).await), "PACKAGE_REFUSED");
    let long = " ".repeat(1 << 20) + &honest;
    assert_eq!(reason(add_json(&farm, long).await), "PACKAGE_REFUSED");
    assert_eq!(packages(&farm).await, Vec::new());
}

#[tokio::test]
async fn a_worker_is_told_what_a_job_waits_for_and_gets_it_when_it_says_that_it_has_it() {
    let farm = Farm::start(CALM).await;
    let (package, bytes) = add_model(&farm, "new").await;
    let mut worker = fetcher(&farm, 1, 1000).await;
    submit(&farm, "new").await;
    assert_eq!(wanted(&mut worker).await, [package.digest().to_string()]);
    let listed = &packages(&farm).await[0];
    assert_eq!(listed.fetching_worker_ids, [worker.id.clone()]);

    let request = v1::DescribePackageRequest { package_digest: package.digest().to_string() };
    let told = worker.client.describe_package(request).await.unwrap().into_inner().package_json;
    assert_eq!(serde_json::from_str::<Package>(&told).unwrap(), package);
    let sha256 = package.files[0].sha256.to_string();
    assert_eq!(fetch(&mut worker, sha256.clone(), 0).await.unwrap(), bytes);
    assert_eq!(fetch(&mut worker, sha256, 3).await.unwrap(), bytes[3..]);

    let model_manifests_json = vec![json(&manifest("new"))];
    worker.say(Ask::Stocked(v1::Stocked { model_manifests_json, ..v1::Stocked::default() })).await;
    let grant = worker.grant().await;
    worker.complete(&grant).await;
    worker.settled().await;
    let listed = &packages(&farm).await[0];
    assert_eq!((&listed.worker_ids, listed.fetching_worker_ids.len()), (&vec![worker.id.clone()], 0));

    let removed_digests = vec![package.digest().to_string()];
    worker.say(Ask::Stocked(v1::Stocked { removed_digests, ..v1::Stocked::default() })).await;
    submit(&farm, "new").await;
    assert_eq!(wanted(&mut worker).await.len(), 1, "it does not have it any more");
}

#[tokio::test]
async fn who_has_no_room_or_declined_is_not_asked_until_the_model_is_added_again() {
    let farm = Farm::start(CALM).await;
    let (package, _) = add_model(&farm, "new").await;
    let mut small = fetcher(&farm, 1, package.bytes() - 1).await;
    let mut worker = fetcher(&farm, 2, 1000).await;
    submit(&farm, "new").await;
    assert_eq!(wanted(&mut worker).await.len(), 1);
    let package_digest = package.digest().to_string();
    let declined = vec![v1::Declined { package_digest, reason: "the disk is full".into() }];
    worker.say(Ask::Stocked(v1::Stocked { declined, ..v1::Stocked::default() })).await;
    while !packages(&farm).await[0].fetching_worker_ids.is_empty() {
        tokio::task::yield_now().await;
    }
    add(&farm, &package).await.unwrap();
    assert_eq!(wanted(&mut worker).await.len(), 1);
    small.say(Ask::Drain(v1::Drain {})).await;
    drop(small.asks);
    assert_eq!(within(small.answers.message()).await.unwrap(), None, "it was told nothing");
}

#[tokio::test]
async fn workers_read_files_of_packages_and_nothing_else() {
    let farm = Farm::start(CALM).await;
    let (package, bytes) = add_model(&farm, "new").await;
    let mut worker = Worker::connect(&farm, 1).await;
    let picture = worker.upload(b"a picture, as it were").await.unwrap();
    assert_eq!(reason(fetch(&mut worker, picture, 0).await), "MODEL_FILE_NOT_FOUND");
    let sha256 = package.files[0].sha256.to_string();
    assert_eq!(fetch(&mut worker, sha256.clone(), bytes.len() as u64).await.unwrap(), Vec::<u8>::new());
    assert_eq!(reason(fetch(&mut worker, sha256.clone(), 1000).await), "NO_SUCH_BYTE");
    let request = v1::RemovePackageRequest { package: "new".into() };
    let removed = farm.models().await.remove_package(request).await.unwrap().into_inner();
    assert_eq!(removed.freed_bytes, bytes.len() as u64);
    assert_eq!(reason(fetch(&mut worker, sha256, 0).await), "MODEL_FILE_NOT_FOUND");
    let request = v1::DescribePackageRequest { package_digest: package.digest().to_string() };
    assert_eq!(reason(worker.client.describe_package(request).await), "PACKAGE_NOT_FOUND");
    submit(&farm, "new").await;
}

#[tokio::test]
async fn a_name_that_several_packages_have_must_be_given_as_a_digest() {
    let farm = Farm::start(CALM).await;
    let (mut one, _) = add_model(&farm, "one").await;
    add_model(&farm, "two").await;
    one.manifest = one.manifest.renamed("two".into());
    add(&farm, &one).await.unwrap();
    let remove = |package: String| async {
        farm.models().await.remove_package(v1::RemovePackageRequest { package }).await
    };
    assert_eq!(reason(remove("two".into()).await), "AMBIGUOUS_PACKAGE");
    assert_eq!(reason(remove("three".into()).await), "PACKAGE_NOT_FOUND");
    remove(one.digest().to_string()).await.unwrap();
    remove("two".into()).await.unwrap();
}
