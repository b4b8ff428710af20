//! `render` and `inspect` without a farm: a picture says how it was made, and an altered one is found out.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs the program in `folder` with `--json`; its exit code and its document.
fn seedfarm(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_seedfarm"))
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        .env_remove("SEEDFARM_MODELS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn render(folder: &Path, more: &[&str]) -> Value {
    let prompt = "cat face on a blue background";
    let arguments: Vec<&str> =
        ["render", "--prompt", prompt, "--steps", "2"].into_iter().chain(more.iter().copied()).collect();
    let (code, document) = seedfarm(folder, &arguments);
    assert_eq!(code, 0, "{document}");
    document
}

#[test]
fn pixels_depend_neither_on_the_batch_nor_on_the_threads_nor_on_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let digests = |document: &Value| -> Vec<String> {
        let images = document["images"].as_array().unwrap();
        images.iter().map(|image| image["pixel_digest"].as_str().unwrap().to_owned()).collect()
    };
    let together =
        render(folder, &["--seed", "5", "--count", "3", "--batch", "3", "--threads", "2", "--out", "a.png"]);
    let apart =
        render(folder, &["--seed", "5", "--count", "3", "--batch", "1", "--threads", "1", "--out", "b.png"]);
    let alone = render(folder, &["--seed", "7", "--out", "c.png"]);
    assert_eq!(digests(&together), digests(&apart));
    assert_eq!(digests(&together)[2], digests(&alone)[0]);
    assert_eq!(together["images"][2]["path"], "a-0003.png");
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(bytes("a-0003.png"), bytes("c.png"));
}

#[test]
fn a_picture_says_how_it_was_made_and_an_altered_one_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rendered = render(folder, &["--seed", "18446744073709551615", "--out", "a.png"]);
    let (code, told) = seedfarm(folder, &["inspect", "a.png"]);
    assert_eq!((code, &told["unaltered"]), (0, &Value::Bool(true)));
    assert_eq!(told["pixel_digest"], rendered["images"][0]["pixel_digest"]);
    assert_eq!(told["recipe_digest"], rendered["images"][0]["recipe_digest"]);
    assert_eq!(told["recipe"]["seed"], "18446744073709551615");
    assert!(told["parameters"].as_str().unwrap().contains("Seed: 18446744073709551615"));
    // Another picture's pixels under this picture's texts.
    let mut texts = png_chunks(&std::fs::read(folder.join("a.png")).unwrap());
    render(folder, &["--seed", "1", "--out", "b.png"]);
    let other = png_chunks(&std::fs::read(folder.join("b.png")).unwrap());
    texts.retain(|chunk| &chunk[4..8] != b"IDAT");
    let end = texts.pop().unwrap();
    texts.extend(other.into_iter().filter(|chunk| &chunk[4..8] == b"IDAT"));
    texts.push(end);
    let forged: Vec<u8> = b"\x89PNG\r\n\x1a\n".iter().copied().chain(texts.into_iter().flatten()).collect();
    std::fs::write(folder.join("forged.png"), forged).unwrap();
    let (code, told) = seedfarm(folder, &["inspect", "forged.png"]);
    assert_eq!((code, &told["pixels"]), (1, &Value::from("differs")));
}

/// The chunks of a PNG file, each with its length, type and checksum.
fn png_chunks(file: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut rest = &file[8..];
    while let Some(length) = rest.first_chunk::<4>() {
        let whole = u32::from_be_bytes(*length) as usize + 12;
        chunks.push(rest[..whole].to_vec());
        rest = &rest[whole..];
    }
    chunks
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_seedfarm"))
        .args(["render", "--prompt", "x", "--steps", "1", "--out", "a.png"])
        .current_dir(folder.path())
        .env_remove("SEEDFARM_MODELS")
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.path().join("a.png").exists());
}
