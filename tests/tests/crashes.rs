//! Processes are killed with `kill -9`; every image is made once, with the pixels of an undisturbed run.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::collections::BTreeMap;

use seedfarm_tests::{Farm, look, program};

const PROMPTS: &str = "cat face on a blue background\n\
    red apple on a yellow background\n\
    {\"prompt\": \"penguin on a blue background\", \"steps\": 8, \"sampler\": \"euler\"}\n\
    {\"prompt\": \"pizza on a green background\", \"steps\": 8, \"sampler\": \"euler_ancestral\"}\n";
const COUNT: &str = "12";
const TOTAL: u64 = 48;

fn submit(farm: &Farm) -> String {
    let file = farm.write("prompts.jsonl", PROMPTS);
    let path = file.to_str().unwrap();
    let args = ["submit", path, "--model", "emoji-starter", "--seed", "42", "--count", COUNT, "--steps", "6"];
    farm.json(args)["job"]["id"].as_str().unwrap().to_owned()
}

fn finished_digests(farm: &Farm, job: &str) -> BTreeMap<u64, String> {
    let state = farm.wait_final(job);
    assert_eq!((state["done"].as_u64(), state["failed"].as_u64()), (Some(TOTAL), Some(0)), "{}", farm.logs());
    let digests = farm.digests(job);
    assert_eq!(digests.len() as u64, TOTAL);
    digests
}

#[test]
fn killed_workers_and_a_killed_coordinator_change_no_pixel_and_lose_no_image() {
    let undisturbed = {
        let farm = Farm::start(1);
        let job = submit(&farm);
        finished_digests(&farm, &job)
    };

    let mut farm = Farm::start(2);
    let job = submit(&farm);
    farm.wait_done(&job, 3);
    farm.kill_worker(0);
    farm.wait_done(&job, 8);
    farm.kill_coordinator();
    farm.start_worker(0);
    farm.start_coordinator();
    farm.wait_done(&job, 20);
    farm.kill_worker(1);
    farm.kill_coordinator();
    farm.start_coordinator();
    assert_eq!(finished_digests(&farm, &job), undisturbed);

    // The private database belongs to one process at a time.
    assert_eq!(farm.stop_coordinator(), 0, "{}", farm.logs());
    let check = farm.json(["db", "check"]);
    assert_eq!(check["findings"].as_array().map(Vec::len), Some(0), "{check}");
}

#[test]
fn the_farm_makes_the_pixels_that_the_bare_engine_makes() {
    let farm = Farm::start(1);
    let job = submit(&farm);
    let digests = finished_digests(&farm, &job);
    let out = farm.dir().join("alone.png");
    let prompt = "red apple on a yellow background";
    let model = ["render", "--model", "emoji-starter", "--prompt", prompt, "--seed", "54", "--steps", "6"];
    let rest = ["--threads", "2", "--json", "--out", out.to_str().unwrap()];
    program::seedfarm(farm.dir(), model.into_iter().chain(rest)).json();
    let alone = look::pixel_digest(&look::picture(&out));
    assert_eq!(alone, digests[&12]);
}

#[test]
fn a_worker_told_to_stop_hands_back_what_it_has_not_begun() {
    let mut farm = Farm::start(2);
    let job = submit(&farm);
    farm.wait_done(&job, 2);
    assert_eq!(farm.stop_worker(0), 0, "{}", farm.logs());
    finished_digests(&farm, &job);
    assert_eq!(farm.stop_worker(1), 0);
    assert_eq!(farm.stop_coordinator(), 0, "{}", farm.logs());
}
