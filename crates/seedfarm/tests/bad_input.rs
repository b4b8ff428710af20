//! Bad input, as a user gives it: one clear message, the right exit code, nothing left behind.
//!
//! These need neither a farm nor a database; what needs them is tested with the whole program.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program in `folder` with nothing of the caller's environment that it reads.
fn seedfarm(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedfarm"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("SEEDFARM_")
            || name.starts_with("PG")
            || name == "DATABASE_URL"
            || name == "RUST_LOG"
        {
            command.env_remove(&*name);
        }
    }
    let output = command
        .args(arguments)
        .current_dir(folder)
        .env("SEEDFARM_DATA_DIR", folder.join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let Output { status, stdout, stderr } = output;
    Run {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs and expects a refusal whose message holds each of `words`, alike with and without `--json`, and
/// which leaves the folder as it was.
fn refused(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let before = entries(folder);
    let plain = seedfarm(folder, arguments);
    assert_eq!(plain.code, code, "{arguments:?}: {}", plain.stderr);
    assert_eq!(plain.stdout, "", "{arguments:?}");
    let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let json = seedfarm(folder, &with_json);
    assert_eq!(json.code, code, "{arguments:?}: {}", json.stderr);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["error"]["exit"], code);
    let message = document["error"]["message"].as_str().unwrap();
    for word in words {
        assert!(plain.stderr.contains(word), "{arguments:?}: no {word:?} in {}", plain.stderr);
        assert!(message.contains(word), "{arguments:?}: no {word:?} in {message}");
    }
    assert!(!plain.stderr.contains("panicked"), "{}", plain.stderr);
    assert_eq!(entries(folder), before, "{arguments:?} left something behind");
}

fn entries(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

const RENDER: [&str; 5] = ["render", "--prompt", "a red apple", "--out", "apple.png"];

fn render(folder: &Path, more: &[&str], code: i32, words: &[&str]) {
    let arguments: Vec<&str> = RENDER.iter().copied().chain(more.iter().copied()).collect();
    refused(folder, &arguments, code, words);
}

#[test]
fn a_setting_out_of_its_limits_is_named_with_the_limit() {
    let folder = folder();
    let folder = folder.path();
    render(folder, &["--steps", "0"], 64, &["steps 0", "1 to 1000"]);
    render(folder, &["--guidance", "NaN"], 64, &["guidance NaN", "1 to 100"]);
    render(folder, &["--guidance", "-3"], 64, &["guidance -3"]);
    render(folder, &["--width", "60"], 64, &["width 60", "multiple of 8", "56 or 64"]);
    render(folder, &["--height", "100000"], 64, &["height 100000", "8 to"]);
    render(folder, &["--count", "0"], 64, &["count 0"]);
    render(folder, &["--sampler", "best"], 64, &["'best'", "ddim, ddpm, euler, euler_ancestral"]);
    render(folder, &["--numerics", "loose"], 64, &["'loose'", "strict, fast"]);
}

#[test]
fn a_seed_out_of_range_is_named_with_the_range() {
    let folder = folder();
    for seed in ["-1", "18446744073709551616", "1.5", "many"] {
        render(folder.path(), &["--seed", seed], 64, &[seed, "18446744073709551615"]);
    }
}

#[test]
fn a_model_that_is_not_there_is_named_with_those_that_are() {
    let folder = folder();
    render(folder.path(), &["--model", "sdxl"], 64, &["'sdxl'", "emoji-starter"]);
    render(folder.path(), &["--model", "./nowhere"], 64, &["./nowhere", "model_index.json"]);
    render(folder.path(), &["--models", "nowhere"], 64, &["nowhere", "model_index.json"]);
}

#[test]
fn a_picture_that_cannot_be_written_is_told_before_anything_is_rendered() {
    let folder = folder();
    let arguments = ["render", "--prompt", "x", "--out", "no/such/folder/a.png"];
    refused(folder.path(), &arguments, 64, &["no/such/folder"]);
}

#[test]
fn a_damaged_model_is_refused_by_file() {
    let folder = folder();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/emoji-starter");
    let model = folder.path().join("model");
    copy(&source, &model);
    std::fs::remove_file(model.join("manifest.toml")).unwrap();
    let weights = model.join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..1000]).unwrap();
    render(folder.path(), &["--model", "./model"], 1, &["diffusion_pytorch_model.safetensors"]);
    let mut oversized = whole.clone();
    oversized[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&weights, oversized).unwrap();
    render(folder.path(), &["--model", "./model"], 1, &["diffusion_pytorch_model.safetensors"]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_prompt_file_that_cannot_be_used_is_refused_with_its_line() {
    let folder = folder();
    let file = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    file("empty.txt", b"\n \n");
    file("latin1.txt", b"a cat\ncaf\xe9\n");
    file("keys.jsonl", b"{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"stpes\": 3}\n");
    file("seed.jsonl", b"{\"prompt\": \"a\", \"seed\": 18446744073709551616}\n");
    let submit = |name: &str, words: &[&str]| refused(folder.path(), &["submit", name], 64, words);
    submit("missing.txt", &["missing.txt", "No such file"]);
    submit("empty.txt", &["empty.txt", "no prompt"]);
    submit("latin1.txt", &["latin1.txt", "line 2", "UTF-8"]);
    submit("keys.jsonl", &["line 2", "stpes", "lists the keys"]);
    submit("seed.jsonl", &["line 1", "seed"]);
    submit(".", &["the prompt file . cannot be read"]);
}

#[test]
fn a_coordinator_that_is_away_asks_to_try_again_later() {
    let folder = folder();
    // Port 9 (discard) is privileged and served by nothing here.
    let away = ["jobs", "--coordinator", "http://127.0.0.1:9", "--token", "t"];
    refused(folder.path(), &away, 75, &["http://127.0.0.1:9", "seedfarm up"]);
}

#[test]
fn without_a_token_the_place_to_find_it_is_named() {
    let folder = folder();
    refused(folder.path(), &["jobs"], 64, &["client.token", "--token"]);
    refused(folder.path(), &["worker"], 64, &["worker.token", "--token"]);
}

#[test]
fn an_address_that_is_none_is_refused_with_an_example() {
    let folder = folder();
    let at = |url| ["jobs", "--token", "t", "--coordinator", url];
    refused(folder.path(), &at("localhost:7740"), 64, &["'localhost:7740'", "http://host:port"]);
    refused(folder.path(), &["coordinator", "--listen", "7740"], 64, &["'7740'", "127.0.0.1:7740"]);
}

#[test]
fn listening_for_other_machines_without_tls_must_be_asked_for() {
    let folder = folder();
    refused(folder.path(), &["coordinator", "--listen", "0.0.0.0:0"], 64, &["--tls-cert", "--plaintext"]);
}

#[test]
fn a_port_in_use_is_named_before_a_database_is_made() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = [address.as_str(), "in use by another program", "choose another port"];
    refused(folder.path(), &["coordinator", "--listen", &address], 1, &words);
}

#[test]
fn a_database_that_is_down_asks_to_try_again_later() {
    let folder = folder();
    let down = ["coordinator", "--listen", "127.0.0.1:0", "--database-url", "postgres://u@127.0.0.1:9/x"];
    refused(folder.path(), &down, 75, &["127.0.0.1:9", "does not answer"]);
    let wrong = ["coordinator", "--listen", "127.0.0.1:0", "--database-url", "mysql://u@127.0.0.1/x"];
    refused(folder.path(), &wrong, 64, &["postgres://"]);
}

#[test]
fn a_file_that_is_no_whole_picture_is_refused() {
    let folder = folder();
    let picture = folder.path().join("a.png");
    std::fs::write(&picture, b"not a picture").unwrap();
    refused(folder.path(), &["inspect", "a.png"], 1, &["a.png", "not a PNG"]);
    refused(folder.path(), &["replay", "a.png", "--token", "t"], 1, &["a.png", "not a PNG"]);
    refused(folder.path(), &["inspect", "b.png"], 1, &["b.png", "No such file"]);
    refused(folder.path(), &["replay", "job_1/2", "--token", "t"], 64, &["'job_1/2'", "image id"]);
}

#[test]
fn a_mistyped_option_is_a_usage_error_and_help_is_none() {
    let folder = folder();
    refused(folder.path(), &["submit", "--cuont", "3"], 64, &["--cuont"]);
    refused(folder.path(), &["sbumit"], 64, &["sbumit"]);
    let help = seedfarm(folder.path(), &["submit", "--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("Examples:"));
    let version = seedfarm(folder.path(), &["--version"]);
    assert_eq!((version.code, version.stdout.as_str()), (0, "seedfarm 0.1.0\n"));
}

#[test]
fn limits_of_the_owner_that_are_wrong_are_told_with_line_value_and_limit() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("\nhuors = []\n", ["line 2", "unknown field `huors`"]),
        ("[temperature]\nmax_c = 500\n", ["temperature.max_c is 500", "between 20 and 120"]),
        ("hours = [{ from = \"25:00\" }]\n", ["'25:00' is no time of day", "22:30"]),
        ("disk = \"1 MB\"\n", ["disk is 1 MB", "at least 1 GiB"]),
    ];
    for (text, words) in cases {
        std::fs::write(folder.path().join("mine.toml"), text).unwrap();
        refused(folder.path(), &["worker", "limits", "--check", "--limits", "mine.toml"], 64, &words);
    }
    refused(
        folder.path(),
        &["worker", "limits", "--check", "--limits", "none.toml"],
        64,
        &["none.toml", "cannot be read"],
    );
    refused(folder.path(), &["worker", "--tags", "A B"], 64, &["'A B' is not a name"]);
}

#[test]
fn the_example_of_limits_is_right_as_it_is_printed() {
    let folder = TempDir::new().unwrap();
    let example = seedfarm(folder.path(), &["worker", "limits", "--example"]);
    std::fs::write(folder.path().join("mine.toml"), &example.stdout).unwrap();
    let check = seedfarm(folder.path(), &["worker", "limits", "--check", "--limits", "mine.toml"]);
    assert_eq!((example.code, check.code), (0, 0), "{}", check.stderr);
    assert!(check.stdout.contains("mine.toml is right"));
    let shown = seedfarm(folder.path(), &["worker", "limits"]);
    assert!(shown.stdout.contains("not running") && shown.stdout.contains("owner.toml is not there"));
}
