//! The owner of a machine decides, also while images are in the making; the farm loses nothing by it.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use seedfarm_tests::{Farm, Outcome, program};
use serde_json::Value;

const PROMPTS: &str = "cat face on a blue background\nred apple on a yellow background\n";
const TOTAL: u64 = 40;

fn submit(farm: &Farm) -> String {
    let file = farm.write("prompts.txt", PROMPTS);
    let path = file.to_str().unwrap();
    let args = ["submit", path, "--model", "emoji-starter", "--seed", "7", "--count", "20", "--steps", "8"];
    farm.json(args)["job"]["id"].as_str().unwrap().to_owned()
}

fn finished(farm: &Farm, job: &str) -> BTreeMap<u64, String> {
    let state = farm.wait_final(job);
    assert_eq!((state["done"].as_u64(), state["failed"].as_u64()), (Some(TOTAL), Some(0)), "{}", farm.logs());
    farm.digests(job)
}

/// A file of the first worker's owner.
fn file(farm: &Farm, name: &str) -> PathBuf {
    farm.dir().join("worker-0/worker").join(name)
}

/// Runs `worker limits` as the first worker's owner does.
fn limits(farm: &Farm, args: &[&str]) -> Outcome {
    let mut command = farm.command();
    command.env("SEEDFARM_DATA_DIR", farm.dir().join("worker-0"));
    program::run(command.args(["worker", "limits", "--json"]).args(args), b"")
}

/// The first worker as the farm shows it.
fn shown(farm: &Farm) -> Value {
    let workers = farm.json(["workers"])["workers"].as_array().unwrap().clone();
    workers.into_iter().find(|worker| worker["name"] == "worker 0").unwrap()
}

/// Bytes that the first worker holds now, and the most that it ever held.
fn memory(farm: &Farm) -> (u64, u64) {
    let state: Value = serde_json::from_slice(&fs::read(file(farm, "owner-state.json")).unwrap()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    let kib = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    (kib("VmRSS:") << 10, kib("VmHWM:") << 10)
}

#[test]
fn an_owner_who_is_back_has_the_machine_at_once_and_the_job_is_finished_by_others_with_the_same_pixels() {
    let undisturbed = {
        let farm = Farm::start(1);
        let job = submit(&farm);
        finished(&farm, &job)
    };

    let farm = Farm::start(2);
    let job = submit(&farm);
    farm.wait_done(&job, 4);
    fs::write(file(&farm, "pause"), "").unwrap();
    farm.until("the farm knows that the device rests", || {
        shown(&farm)["devices"][0]["resting"].as_str()?.contains("pause file").then_some(())
    });
    farm.until("the worker holds no lease", || (shown(&farm)["devices"][0]["leases"] == 0).then_some(()));
    farm.until("the memory is given back", || {
        let (now, most) = memory(&farm);
        (now < most / 2).then_some(())
    });
    let made = shown(&farm)["images"].as_u64().unwrap();
    let why = limits(&farm, &[]).json();
    assert!(why["worker"]["devices"][0]["resting"].as_str().unwrap().contains("pause file"), "{why}");
    assert_eq!(finished(&farm, &job), undisturbed);
    assert_eq!(shown(&farm)["images"].as_u64().unwrap(), made, "a device that rests makes nothing");
}

#[test]
fn limits_that_are_edited_hold_at_once_and_a_bad_edit_changes_nothing_and_is_told() {
    let farm = Farm::start(1);
    fs::write(file(&farm, "owner.toml"), "tags = [\"pool:night\"]\ndevices = []\n").unwrap();
    farm.until("the edit holds", || {
        let worker = shown(&farm);
        let rests = worker["devices"][0]["resting"].as_str()?.contains("do not list cpu");
        (rests && worker["tags"][0] == "pool:night").then_some(())
    });
    let job = submit(&farm);

    fs::write(file(&farm, "owner.toml"), "devises = []\n").unwrap();
    let why = farm.until("the fault is told", || {
        let why = limits(&farm, &[]).json();
        why["worker"]["fault"].is_string().then_some(why)
    });
    assert!(why["error"].as_str().unwrap().contains("line 1: unknown field `devises`"), "{why}");
    assert!(shown(&farm)["devices"][0]["resting"].is_string());
    let check = limits(&farm, &["--check"]);
    assert_eq!(check.code, 64, "{check:?}");
    assert_eq!(farm.job(&job)["done"], 0);

    fs::write(file(&farm, "owner.toml"), "").unwrap();
    finished(&farm, &job);
    assert_eq!(limits(&farm, &["--check"]).json()["right"], true);
    assert_eq!(limits(&farm, &[]).json()["worker"]["fault"], Value::Null);
}
