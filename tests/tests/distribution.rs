//! Models reach workers through the farm: added once, fetched where jobs wait, and the pixels are the same.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};

use seedfarm_tests::{Farm, Proxy, look, program};
use serde_json::Value;

/// More than all models here.
const PLENTY: &str = "1GB";

fn parity(name: &str) -> PathBuf {
    program::root().join("tests/parity").join(name)
}

fn add(farm: &Farm, path: &Path) -> Value {
    farm.json(["models", "add", path.to_str().unwrap()])
}

fn submit(farm: &Farm, model: &str, count: &str, more: &[&str]) -> String {
    let args =
        ["submit", "--prompt", "an astronaut", "--seed", "7", "--steps", "2", "--model", model, "--json"];
    let size = ["--width", "64", "--height", "64", "--count", count];
    let submitted = program::run(farm.command().args(args).args(size).args(more), b"").json();
    submitted["job"]["id"].as_str().unwrap().to_owned()
}

/// Waits until a job is done, all of it.
fn done(farm: &Farm, job: &str, images: u64) {
    let end = farm.wait_final(job);
    assert_eq!((end["done"].as_u64(), end["failed"].as_u64()), (Some(images), Some(0)), "{}", farm.logs());
}

/// The pixels that this machine's engine makes of the first image, without a farm.
fn alone(farm: &Farm, folder: &Path, model: &str, more: &[&str]) -> String {
    let out = farm.dir().join("alone.png");
    let args =
        ["render", "--prompt", "an astronaut", "--seed", "7", "--steps", "2", "--model", model, "--json"];
    let size = ["--width", "64", "--height", "64", "--models", folder.to_str().unwrap()];
    let out_args = ["--out", out.to_str().unwrap()];
    let all = args.into_iter().chain(size).chain(out_args).chain(more.iter().copied());
    program::seedfarm(farm.dir(), all).json();
    look::pixel_digest(&look::picture(&out))
}

/// Bytes of files that are on a cache's disk, whole or in part.
fn on_disk(cache: &Path) -> u64 {
    let bytes = |folder: &str| -> u64 {
        let entries = fs::read_dir(cache.join(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
    };
    bytes("files") + bytes("partial")
}

fn package(farm: &Farm, name: &str) -> Value {
    let listed = farm.json(["models"]);
    let packages = listed["packages"].as_array().unwrap();
    packages.iter().find(|package| package["name"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn a_worker_without_models_fetches_what_jobs_wait_for_and_makes_the_same_pixels() {
    let mut farm = Farm::start(0);
    let cache = farm.dir().join("cache");
    farm.add_fetcher(&cache, PLENTY, &farm.url());
    let added = add(&farm, &parity("models/tiny-sd1"));
    assert_eq!(added["sent_bytes"], added["bytes"]);
    let again = add(&farm, &parity("models/tiny-sd1"));
    assert_eq!((&again["sent_bytes"], &again["digest"]), (&0.into(), &added["digest"]));
    assert_eq!(on_disk(&cache), 0, "nothing is fetched that no job waits for");

    let job = submit(&farm, "tiny-sd1", "2", &[]);
    done(&farm, &job, 2);
    assert_eq!(farm.digests(&job)[&0], alone(&farm, &parity("models"), "tiny-sd1", &[]));
    let held = package(&farm, "tiny-sd1");
    assert_eq!(held["worker_ids"].as_array().map(Vec::len), Some(1), "{held}");

    let lora = parity("adapters/kohya-mid.safetensors");
    assert_eq!(add(&farm, &lora)["kind"], "lora");
    let with_lora = ["--lora", "kohya-mid:0.8"];
    let job = submit(&farm, "tiny-sd1", "1", &with_lora);
    done(&farm, &job, 1);
    let both = farm.dir().join("both");
    program::run(std::process::Command::new("cp").arg("-r").arg(parity("models/tiny-sd1")).arg(&both), b"");
    let folder = farm.dir().join("together");
    fs::create_dir(&folder).unwrap();
    fs::rename(&both, folder.join("tiny-sd1")).unwrap();
    fs::copy(&lora, folder.join("kohya-mid.safetensors")).unwrap();
    assert_eq!(farm.digests(&job)[&0], alone(&farm, &folder, "tiny-sd1", &with_lora));

    // What it fetched is there at its next start, and needs no farm to hand it out.
    farm.kill_worker(0);
    assert_eq!(farm.json(["models", "remove", "tiny-sd1"])["package"]["name"], "tiny-sd1");
    farm.start_worker(0);
    let job = submit(&farm, "tiny-sd1", "1", &[]);
    done(&farm, &job, 1);
}

#[test]
fn a_download_that_kill_9_ended_goes_on_where_it_stopped() {
    let mut farm = Farm::start(0);
    let all = add(&farm, &program::models().join("emoji-starter"))["bytes"].as_u64().unwrap();
    let cache = farm.dir().join("cache");
    let proxy = Proxy::start(farm.port(), all / 2);
    farm.add_fetcher(&cache, PLENTY, &proxy.url());
    let job = submit(&farm, "emoji-starter", "1", &[]);
    // Past this, no piece that the proxy reads at once fits any more.
    farm.until("half of the model has come", || (on_disk(&cache) > all / 2 - (2 << 20)).then_some(()));
    farm.kill_worker(0);
    let (kept, before) = (on_disk(&cache), proxy.passed());
    assert!(kept > all / 4, "{kept} of {all} bytes");
    proxy.open();
    farm.start_worker(0);
    done(&farm, &job, 1);
    let second = proxy.passed() - before;
    let slack = 1 << 20;
    assert!(second < all - kept + slack, "{second} bytes came after {kept} of {all} were there");
    assert!(second > (all - kept) / 2, "what was missing came through here: {second} bytes");
}

#[test]
fn a_stored_file_that_is_damaged_is_refused_by_its_name_found_and_mended() {
    let mut farm = Farm::start(0);
    let cache = farm.dir().join("cache");
    farm.add_fetcher(&cache, PLENTY, &farm.url());
    let model = parity("models/tiny-sd2");
    add(&farm, &model);
    let sha256 = damage_the_largest(&farm.dir().join("data/blobs/models"));
    let job = submit(&farm, "tiny-sd2", "1", &[]);
    farm.until("the worker names the damaged file", || {
        let log = fs::read_to_string(farm.dir().join("worker-0.log")).unwrap();
        log.lines().any(|line| line.contains(&sha256) && line.contains("damaged")).then_some(())
    });
    assert_eq!(farm.job(&job)["state"], "active", "the job waits");
    assert_eq!(farm.json(["models", "list"])["packages"][0]["worker_ids"], Value::Array(Vec::new()));

    let verified = farm.run(["models", "verify", "--farm"]);
    assert_eq!(verified.code, 1, "{verified:#?}");
    assert!(verified.stderr.contains(".safetensors is damaged"), "{verified:#?}");
    assert!(add(&farm, &model)["sent_bytes"].as_u64() > Some(0));
    assert_eq!(farm.json(["models", "verify", "--farm"])["whole"], true);
    done(&farm, &job, 1);
}

/// Flips one bit of the largest file and answers its name.
fn damage_the_largest(folder: &Path) -> String {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let largest = files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&largest, bytes).unwrap();
    largest.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn two_workers_share_one_cache_and_every_file_comes_once() {
    let mut farm = Farm::start(0);
    let cache = farm.dir().join("cache");
    for _ in 0..2 {
        farm.add_fetcher(&cache, PLENTY, &farm.url());
    }
    let added = add(&farm, &parity("models/tiny-sd1"));
    let job = submit(&farm, "tiny-sd1", "80", &[]);
    farm.until("both workers have the model", || {
        (package(&farm, "tiny-sd1")["worker_ids"].as_array()?.len() == 2).then_some(())
    });
    done(&farm, &job, 80);
    assert!(on_disk(&cache) <= added["bytes"].as_u64().unwrap());
    let log = fs::read_to_string(farm.dir().join("coordinator.log")).unwrap();
    let sent = log.lines().filter(|line| line.contains("a file of a model was sent")).count();
    assert_eq!(sent as u64, added["files"].as_u64().unwrap(), "{log}");
}

#[test]
fn models_come_and_go_within_the_disk_limit_and_come_back() {
    let mut farm = Farm::start(0);
    let one = add(&farm, &parity("models/tiny-sd1"))["bytes"].as_u64().unwrap();
    let two = add(&farm, &parity("models/tiny-sd2"))["bytes"].as_u64().unwrap();
    let limit = one.max(two) + 1000;
    let cache = farm.dir().join("cache");
    farm.add_fetcher(&cache, &limit.to_string(), &farm.url());
    for model in ["tiny-sd1", "tiny-sd2", "tiny-sd1"] {
        let job = submit(&farm, model, "1", &[]);
        done(&farm, &job, 1);
        assert!(on_disk(&cache) <= limit, "{} of {limit} bytes", on_disk(&cache));
        let other = if model == "tiny-sd1" { "tiny-sd2" } else { "tiny-sd1" };
        assert_eq!(package(&farm, other)["worker_ids"], Value::Array(Vec::new()), "{other} made room");
    }
}

#[test]
fn what_cannot_be_added_is_refused_with_the_reason_and_nothing_of_it_is_seen() {
    let farm = Farm::start(0);
    let refused = |path: &Path, code: i32, reason: &str| {
        let outcome = farm.run(["models", "add", path.to_str().unwrap()]);
        assert_eq!(outcome.code, code, "{outcome:#?}");
        assert!(outcome.stderr.contains(reason), "{outcome:#?}");
    };
    let pickle = farm.write("old.ckpt", "\u{2}");
    refused(&pickle, 1, "is a pickle");
    refused(&farm.dir().join("nowhere"), 64, "is not there");
    refused(&farm.write("notes.txt", "no model"), 1, "notes.txt");
    let cut = farm.dir().join("cut.safetensors");
    let whole = fs::read(parity("models/single-sd1.safetensors")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    refused(&cut, 1, "cut.safetensors");
    let odd = farm.dir().join("größe.safetensors");
    fs::write(&odd, &whole).unwrap();
    fs::copy(parity("models/single-sd1.toml"), odd.with_extension("toml")).unwrap();
    refused(&odd, 64, "rename the file");
    assert_eq!(farm.json(["models"])["packages"], Value::Array(Vec::new()));
    let outcome = farm.run(["models", "remove", "nothing"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("'nothing'"), "{outcome:#?}");
}
