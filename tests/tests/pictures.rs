//! An image starts from a picture: uploaded by itself or with its job, rendered on a farm, proven by replay.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::path::PathBuf;

use seedfarm_core::ArtifactDigest;
use seedfarm_picture::{Picture, encode_plain};
use seedfarm_tests::http::request;
use seedfarm_tests::{Farm, look};
use serde_json::Value;

/// A picture file of `width` x 64 pixels: red on the left, yellow on the right.
fn picture(farm: &Farm, name: &str, width: u32) -> PathBuf {
    let pixel = |at: u32| if at % width < width / 2 { [200, 30, 30] } else { [240, 220, 60] };
    let rgb = (0..width * 64).flat_map(pixel).collect();
    let path = farm.dir().join(name);
    std::fs::write(&path, encode_plain(&Picture::new(width, 64, rgb).unwrap()).unwrap()).unwrap();
    path
}

/// Submits one image, waits for it and fetches it: the job's id, and what fetch says of the image.
fn make(farm: &Farm, more: &[&str]) -> (String, Value) {
    let mut args =
        vec!["submit", "--prompt", "red apple on a yellow background", "--seed", "7", "--steps", "6"];
    args.extend(["--model", "emoji-starter", "--json"]);
    args.extend(more);
    let submitted = seedfarm_tests::program::run(farm.command().args(&args), b"").json();
    let job = submitted["job"]["id"].as_str().unwrap().to_owned();
    let end = farm.wait_final(&job);
    assert_eq!(end["done"], 1, "{}\n{}", farm.json(["job", &job]), farm.logs());
    let out = farm.dir().join("fetched").join(&job);
    let fetched = farm.json(["fetch", &job, "--out", out.to_str().unwrap()]);
    (job, fetched["images"][0].clone())
}

fn recipe_in(image: &Value) -> Value {
    let file = std::fs::read(image["path"].as_str().unwrap()).unwrap();
    let metadata = seedfarm_picture::read_metadata(&file).unwrap();
    serde_json::from_str(&metadata.recipe_json.unwrap()).unwrap()
}

#[test]
fn an_image_drawn_over_an_uploaded_picture_is_exact_on_replay_and_elsewhere_names_what_is_missing() {
    let farm = Farm::start(2);
    let source = picture(&farm, "apple.png", 64);
    let uploaded = farm.json(["upload", source.to_str().unwrap()]);
    let digest = uploaded["pictures"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest, ArtifactDigest::of_bytes(&std::fs::read(&source).unwrap()).to_string());
    assert_eq!(farm.json(["upload", source.to_str().unwrap()])["pictures"][0]["known"], true);

    let (job, drawn) = make(&farm, &["--source", &digest, "--strength", "0.5"]);
    let recipe = recipe_in(&drawn);
    assert_eq!(
        (&recipe["source"]["image"], &recipe["source"]["first_step"]),
        (&digest.clone().into(), &3.into())
    );
    let (_, from_noise) = make(&farm, &[]);
    assert_ne!(drawn["pixel_digest"], from_noise["pixel_digest"]);

    let replay = farm.json(["replay", &format!("{job}/0")]);
    assert_eq!(replay["outcome"]["verdict"], "exact", "{replay}");

    let elsewhere = Farm::start(1);
    let file = drawn["path"].as_str().unwrap();
    let outcome = elsewhere.run(["replay", file, "--json"]);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    let replay: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(replay["outcome"]["verdict"], "unverifiable", "{replay}");
    assert!(replay["outcome"]["missing"].as_str().unwrap().contains(&digest), "{replay}");
    elsewhere.json(["upload", source.to_str().unwrap()]);
    let replay = elsewhere.json(["replay", file]);
    assert_eq!(replay["outcome"]["verdict"], "exact", "{replay}");
}

#[test]
fn a_prompt_files_pictures_are_uploaded_brought_to_size_and_rendered_alike_without_a_farm() {
    let farm = Farm::start(1);
    let source = picture(&farm, "wide.png", 100);
    farm.write(
        "prompts.jsonl",
        r#"{"prompt": "red apple", "source": {"image": "wide.png", "strength": 0.5, "mask": "wide.png"}}"#,
    );
    let args = ["submit", "prompts.jsonl", "--model", "emoji-starter", "--seed", "3", "--steps", "4"];
    let outcome = farm.run(args);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    for words in ["96x64", "multiples of 8", "cut to 96x64"] {
        assert!(outcome.stderr.contains(words), "'{words}' is missing from {outcome:#?}");
    }
    let job = outcome.stdout.trim();
    farm.wait_final(job);
    let pixels = farm.digests(job)[&0].clone();

    let (out, source) = (farm.dir().join("here.png"), source.to_str().unwrap());
    let args = ["render", "--prompt", "red apple", "--seed", "3", "--steps", "4", "--source", source];
    let more = ["--mask", source, "--strength", "0.5", "--model", "emoji-starter", "--json", "--out"];
    let mut render = farm.command();
    render.args(args).args(more).arg(&out);
    let rendered = seedfarm_tests::program::run(&mut render, b"").json();
    assert_eq!(rendered["images"][0]["pixel_digest"], pixels.as_str());
    assert_eq!((look::picture(&out).width(), look::picture(&out).height()), (96, 64));
}

#[test]
fn a_picture_that_does_not_fit_or_is_none_is_refused_and_nothing_is_stored() {
    let farm = Farm::start(1);
    let source = picture(&farm, "wide.png", 100);
    let text = farm.write("text.png", "a text");
    let submit = |more: &[&str]| {
        let args = ["submit", "--prompt", "a", "--model", "emoji-starter"];
        seedfarm_tests::program::run(farm.command().args(args).args(more), b"")
    };
    let (source, text) = (source.to_str().unwrap(), text.to_str().unwrap());
    let absent = "ab".repeat(32);
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--source", source, "--no-resize"], &["wide.png", "100x64", "96x64", "--no-resize"]),
        (&["--source", text], &["text.png", "PNG, JPEG or WebP"]),
        (&["--source", "no-such.png"], &["no-such.png"]),
        (&["--source", &absent], &[&absent, "seedfarm upload"]),
        (&["--lora", "felt"], &["lora 'felt' is unknown", "worker's model folder"]),
    ];
    for (more, words) in cases {
        let outcome = submit(more);
        assert_eq!(outcome.code, 64, "{outcome:#?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "'{word}' is missing from {outcome:#?}");
        }
    }
    assert_eq!(farm.json(["jobs"])["jobs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_picture_comes_in_over_http_too() {
    let farm = Farm::start(0);
    let gateway = farm.start_gateway();
    let token = std::fs::read_to_string(farm.dir().join("data/client.token")).unwrap();
    let headers = [format!("Authorization: Bearer {}", token.trim())];
    let file = std::fs::read(picture(&farm, "apple.png", 64)).unwrap();
    let stored = request(gateway.port, "POST", "/api/v1/pictures", &headers, &file).json();
    assert_eq!(stored["digest"], ArtifactDigest::of_bytes(&file).to_string().as_str());
    assert_eq!(
        (&stored["width"], &stored["height"], &stored["known"]),
        (&64.into(), &64.into(), &false.into())
    );
    let refused = request(gateway.port, "POST", "/api/v1/pictures", &headers, b"a text");
    assert_eq!((refused.status, refused.json()["error"]["reason"].as_str()), (400, Some("NOT_A_PICTURE")));
    let empty = request(gateway.port, "POST", "/api/v1/pictures", &headers, b"");
    assert_eq!(empty.status, 400, "{empty:?}");
}
