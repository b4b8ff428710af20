//! What comes in wrong gets one clear message with the value, the limit and the way out, the right exit
//! code, and leaves nothing behind.

use seedfarm_tests::program::{run, seedfarm, seedfarm_reading};
use seedfarm_tests::{Farm, Outcome, program};

const FAILURE: i32 = 1;
const USAGE: i32 = 64;
const TRY_AGAIN: i32 = 75;

fn refused(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, code, "{outcome:#?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "'{word}' is missing from {outcome:#?}");
    }
    assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
}

#[test]
fn a_bad_submission_names_the_fault_and_stores_nothing() {
    let farm = Farm::start(1);
    let submit = |text: &[u8], more: &[&str]| {
        let path = farm.dir().join("bad.jsonl");
        std::fs::write(&path, text).unwrap();
        let model: &[&str] = if more.contains(&"--model") { &[] } else { &["--model", "emoji-starter"] };
        run(farm.command().args(["submit", path.to_str().unwrap()]).args(model).args(more), b"")
    };
    let cases: [(&[u8], &[&str], &[&str]); 13] = [
        (b"", &[], &["bad.jsonl", "holds no prompt"]),
        (b"a\n\xff\n", &[], &["line 2", "UTF-8"]),
        (b"a\n{\"prompt\": 3}\n", &[], &["line 2", "not a prompt line"]),
        (b"a\n{\"prompt\": \"b\", \"width\": 100}\n", &[], &["line 2", "100", "multiple of 8", "96 or 104"]),
        (b"a\n", &["--width", "100000"], &["line 1", "100000"]),
        (b"a\n", &["--steps", "0"], &["steps 0", "1 to 1000"]),
        (b"a\n", &["--guidance", "NaN"], &["guidance NaN", "1 to 100"]),
        (b"a\n", &["--seed", "18446744073709551616"], &["18446744073709551616", "18446744073709551615"]),
        (b"a\n", &["--seed", "-1"], &["-1"]),
        (b"a\n", &["--count", "0"], &["0"]),
        (b"a\n", &["--sampler", "best"], &["best", "euler"]),
        (b"a\n", &["--seed-policy", "explicit"], &["line 1", "seed"]),
        (b"a\n", &["--model", "no-such-model"], &["no-such-model", "emoji-starter"]),
    ];
    for (text, more, words) in cases {
        let outcome = submit(text, more);
        assert!(matches!(outcome.code, FAILURE | USAGE), "{outcome:#?}");
        refused(&outcome, outcome.code, words);
    }
    assert_eq!(farm.json(["jobs"])["jobs"].as_array().map(Vec::len), Some(0));
    let missing = farm.run(["submit", "no-such-file.jsonl", "--model", "emoji-starter"]);
    refused(&missing, USAGE, &["no-such-file.jsonl"]);
    let token = run(farm.command().args(["jobs", "--token", "wrong"]), b"");
    refused(&token, FAILURE, &["token"]);
    let job = farm.run(["job", "job_00000000000000000000000000000000"]);
    refused(&job, FAILURE, &["job_00000000000000000000000000000000"]);
}

#[test]
fn a_port_in_use_and_a_folder_in_use_are_named() {
    let farm = Farm::start(0);
    let address = farm.url().trim_start_matches("http://").to_owned();
    let elsewhere = program::folder();
    let port = seedfarm(elsewhere.path(), ["coordinator", "--listen", &address]);
    refused(&port, FAILURE, &[&address, "in use"]);
    let folder = farm.run(["coordinator", "--listen", "127.0.0.1:0"]);
    refused(&folder, folder.code, &["data"]);
    assert_ne!(folder.code, 0);
}

#[test]
fn a_coordinator_that_is_not_there_says_try_again() {
    let dir = program::folder();
    let outcome = seedfarm(dir.path(), ["jobs", "--coordinator", "http://127.0.0.1:1", "--token", "x"]);
    refused(&outcome, TRY_AGAIN, &["http://127.0.0.1:1", "seedfarm coordinator"]);
}

#[test]
fn a_database_that_is_down_says_try_again() {
    let dir = program::folder();
    let url = "postgres://nobody@127.0.0.1:1/none";
    let args = ["coordinator", "--listen", "127.0.0.1:0", "--database-url", url];
    refused(&seedfarm(dir.path(), args), TRY_AGAIN, &["127.0.0.1:1", "does not answer"]);
}

#[test]
fn broken_pictures_and_models_are_refused() {
    let dir = program::folder();
    let broken = dir.path().join("broken.png");
    std::fs::write(&broken, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
    refused(&seedfarm(dir.path(), ["inspect", broken.to_str().unwrap()]), FAILURE, &["broken.png"]);

    let model = dir.path().join("model");
    std::fs::create_dir_all(model.join("unet")).unwrap();
    let out = dir.path().join("out.png");
    let render =
        ["render", "--model", model.to_str().unwrap(), "--prompt", "a", "--out", out.to_str().unwrap()];
    refused(&seedfarm(dir.path(), render), USAGE, &["model_index.json"]);
    assert!(!out.exists());
}

#[test]
fn a_prompt_file_comes_from_standard_input_too() {
    let farm = Farm::start(0);
    let args = ["submit", "-", "--model", "emoji-starter", "--json"];
    let outcome = run(farm.command().args(args), b"a red apple\n");
    assert_eq!(outcome.json()["job"]["total"], 1);
    let empty = ["submit", "-", "--model", "m", "--coordinator", &farm.url()];
    let nothing = seedfarm_reading(farm.dir(), empty, b"");
    refused(&nothing, nothing.code, &["holds no prompt"]);
    assert_ne!(nothing.code, 0);
}
