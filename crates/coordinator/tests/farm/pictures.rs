//! Uploaded pictures: taken in, named by jobs, given to workers, needed by replays.

use seedfarm_core::limits;
use seedfarm_core::settings::{PictureRef, SourceRequest};
use seedfarm_core::{ArtifactDigest, Recipe};
use seedfarm_picture::{Picture, encode_plain};
use seedfarm_proto::v1::create_replay_request::Original;
use seedfarm_proto::{CHUNK_BYTES, convert, error, v1};
use tokio_stream::iter;
use tonic::{Code, Status};

use crate::support::{CALM, Farm, spec, unique};
use crate::worker::{Worker, hello, recipes};

fn png(width: u32, height: u32) -> Vec<u8> {
    encode_plain(&Picture::new(width, height, vec![7; (3 * width * height) as usize]).unwrap()).unwrap()
}

async fn put(farm: &Farm, told: &str, file: &[u8]) -> Result<v1::PutPictureResponse, Status> {
    let mut digest = told.to_owned();
    let chunk = |data: &[u8]| v1::PutPictureRequest {
        digest: std::mem::take(&mut digest),
        chunk: Some(v1::Chunk { data: data.to_vec() }),
    };
    let messages: Vec<_> = file.chunks(CHUNK_BYTES).map(chunk).collect();
    farm.jobs().await.put_picture(iter(messages)).await.map(tonic::Response::into_inner)
}

/// A job of one image that starts from a picture.
fn from_picture(image: &str) -> v1::SubmitJobRequest {
    let mut spec = spec(&["a red apple", "a green apple"], 1);
    let image = PictureRef::from(image.to_owned());
    spec.prompts[1].settings.source = Some(SourceRequest { image, strength: Some(0.5), mask: None });
    convert::submission(spec, "tiny".into(), unique())
}

async fn refused(farm: &Farm, request: v1::SubmitJobRequest) -> (String, String) {
    let status = farm.jobs().await.submit_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    (error::reason_of(&status).unwrap(), status.message().to_owned())
}

async fn fetch(worker: &mut Worker, digest: &str) -> Result<Vec<u8>, Status> {
    let request = v1::FetchPictureRequest { digest: digest.to_owned() };
    let mut stream = worker.client.fetch_picture(request).await?.into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await? {
        file.extend(message.chunk.unwrap().data);
    }
    Ok(file)
}

#[tokio::test]
async fn a_picture_is_taken_in_once_and_its_size_is_told() {
    let farm = Farm::start(CALM).await;
    let file = png(16, 8);
    let digest = ArtifactDigest::of_bytes(&file).to_string();
    for (told, known) in [("", false), (digest.as_str(), true)] {
        let answer = put(&farm, told, &file).await.unwrap();
        assert_eq!((answer.digest, answer.known), (digest.clone(), known));
        assert_eq!((answer.width, answer.height), (16, 8));
    }
}

#[tokio::test]
async fn a_file_that_is_no_picture_too_large_or_damaged_is_refused_with_the_reason() {
    let farm = Farm::start(CALM).await;
    let mut cut = png(16, 8);
    cut.truncate(cut.len() / 2);
    let large = vec![0; limits::MAX_ARTIFACT_BYTES + 1];
    let whole = png(8, 8);
    let cases: [(&str, &[u8], &str); 4] = [
        ("", b"a text", "NOT_A_PICTURE"),
        ("", &cut, "NOT_A_PICTURE"),
        ("", &large, "ARTIFACT_TOO_LARGE"),
        (&"00".repeat(32), &whole, "WRONG_DIGEST"),
    ];
    for (told, file, reason) in cases {
        let status = put(&farm, told, file).await.unwrap_err();
        assert_eq!(error::reason_of(&status).as_deref(), Some(reason), "{status}");
        let digest = ArtifactDigest::of_bytes(file).to_string();
        let (code, _) = refused(&farm, from_picture(&digest)).await;
        assert_eq!(code, "UNKNOWN_PICTURE", "nothing of it was kept");
    }
}

#[tokio::test]
async fn a_job_that_names_a_picture_that_is_not_there_or_of_another_size_is_refused_at_its_line() {
    let farm = Farm::start(CALM).await;
    let digest = put(&farm, "", &png(16, 8)).await.unwrap().digest;
    let (code, message) = refused(&farm, from_picture(&digest)).await;
    assert_eq!(code, "PICTURE_SIZE");
    assert!(message.starts_with("line 2: ") && message.contains("16x8 pixels"), "{message}");
    let (code, message) = refused(&farm, from_picture("pictures/cat.png")).await;
    assert_eq!(code, "UNKNOWN_PICTURE");
    assert!(message.starts_with("line 2: ") && message.contains("seedfarm upload"), "{message}");
    std::fs::remove_dir_all(farm.folder.path().join("blobs")).unwrap();
    std::fs::create_dir(farm.folder.path().join("blobs")).unwrap();
    let (code, _) = refused(&farm, from_picture(&digest)).await;
    assert_eq!(code, "UNKNOWN_PICTURE", "a picture whose bytes are gone is not there");
}

#[tokio::test]
async fn a_worker_may_read_uploaded_pictures_and_nothing_else() {
    let farm = Farm::start(CALM).await;
    let file = png(8, 8);
    let digest = put(&farm, "", &file).await.unwrap().digest;
    let mut worker = Worker::connect(&farm, 1).await;
    assert_eq!(fetch(&mut worker, &digest).await.unwrap(), file);
    let made = worker.upload(&png(24, 8)).await.unwrap();
    for digest in [made.as_str(), &"00".repeat(32)] {
        let status = fetch(&mut worker, digest).await.unwrap_err();
        assert_eq!(error::reason_of(&status).as_deref(), Some("PICTURE_NOT_FOUND"));
    }
}

/// A worker with credit for one lease.
async fn one_at_a_time(farm: &Farm) -> Worker {
    let mut worker = Worker::greet(farm, hello(1)).await;
    worker.welcome().await;
    worker.credit(1).await;
    worker
}

#[tokio::test]
async fn what_a_worker_says_of_an_image_is_kept_and_shown_with_it() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(2).await;
    let mut worker = one_at_a_time(&farm).await;
    for _ in 0..2 {
        let grant = worker.grant().await;
        let mut complete = worker.render(&grant).await;
        for image in complete.images.iter_mut().filter(|image| image.index == 1) {
            image.warnings = vec!["the prompt's end was not read".to_owned(), "a\0b".to_owned()];
        }
        worker.say(v1::session_request::Message::Complete(complete)).await;
        worker.settled().await;
        worker.credit(1).await;
    }
    let images = farm.images(&job.id).await;
    assert_eq!(images[0].warnings, Vec::<String>::new());
    assert_eq!(images[1].warnings, ["the prompt's end was not read", "a\u{fffd}b"]);
    let found = farm.jobs().await.get_job(v1::GetJobRequest { job_id: job.id }).await.unwrap().into_inner();
    let told: Vec<&str> = found.warnings.iter().map(|image| image.id.as_str()).collect();
    assert_eq!(told, [images[1].id.as_str()]);
}

/// An image that was made from a picture, as its file tells of it.
async fn made_from_a_picture(farm: &Farm) -> v1::ForeignImage {
    let digest = put(farm, "", &png(8, 8)).await.unwrap().digest;
    farm.jobs().await.submit_job(from_picture(&digest)).await.unwrap();
    let mut worker = one_at_a_time(farm).await;
    let mut all: Vec<(u64, Recipe)> = Vec::new();
    while all.len() < 2 {
        let grant = worker.grant().await;
        all.extend(recipes(&grant));
        worker.complete(&grant).await;
        worker.settled().await;
        worker.credit(1).await;
    }
    let (_, recipe) = all.into_iter().find(|(index, _)| *index == 1).unwrap();
    assert_eq!(recipe.template.pictures().len(), 1);
    v1::ForeignImage {
        recipe_json: recipe.canonical(),
        pixel_digest: crate::worker::picture(&recipe, 0).digest().to_string(),
        fingerprint_json: None,
        png: None,
    }
}

async fn replay(farm: &Farm, image: v1::ForeignImage) -> v1::Replay {
    let request = v1::CreateReplayRequest { original: Some(Original::Foreign(image)) };
    farm.replays().await.create_replay(request).await.unwrap().into_inner().replay.unwrap()
}

#[tokio::test]
async fn a_replay_whose_picture_is_gone_is_unverifiable_and_says_so() {
    let farm = Farm::start(CALM).await;
    let image = made_from_a_picture(&farm).await;
    assert!(replay(&farm, image.clone()).await.outcome.is_none(), "here it can be rendered");
    let elsewhere = Farm::start(CALM).await;
    let outcome = replay(&elsewhere, image).await.outcome.unwrap();
    assert_eq!(outcome.verdict, "unverifiable");
    assert!(outcome.missing.as_ref().unwrap().contains("picture"), "{outcome:?}");
}
