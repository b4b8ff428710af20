//! Coordinators on one database: the active one is killed, stopped or told to leave, and a standby takes over.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::collections::BTreeMap;
use std::time::Instant;

use rustix::process::Signal;
use seedfarm_tests::Farm;
use seedfarm_tests::http::request;

const PROMPTS: &str = "cat face on a blue background\nred apple on a yellow background\n";
const TOTAL: u64 = 48;

fn submit(farm: &Farm) -> String {
    let file = farm.write("prompts.txt", PROMPTS);
    let path = file.to_str().unwrap();
    let args = ["submit", path, "--model", "emoji-starter", "--seed", "7", "--count", "24", "--steps", "6"];
    farm.json(args)["job"]["id"].as_str().unwrap().to_owned()
}

fn finished_digests(farm: &Farm, job: &str) -> BTreeMap<u64, String> {
    let state = farm.wait_final(job);
    assert_eq!((state["done"].as_u64(), state["failed"].as_u64()), (Some(TOTAL), Some(0)), "{}", farm.logs());
    farm.digests(job)
}

/// The digests of the same job on a farm that nothing happens to.
fn undisturbed() -> BTreeMap<u64, String> {
    let farm = Farm::start(1);
    let job = submit(&farm);
    finished_digests(&farm, &job)
}

fn is_sound(farm: &Farm) {
    let check = farm.json(["db", "check"]);
    assert_eq!(check["findings"].as_array().map(Vec::len), Some(0), "{check}");
}

fn wait_active(farm: &Farm, number: usize, since: Instant) {
    farm.wait_replica(number, "the standby has taken over", |status| status["role"] == "active");
    eprintln!("coordinator {number} was seen active {} ms later", since.elapsed().as_millis());
}

#[test]
fn a_standby_takes_over_from_a_killed_and_then_from_a_stopped_coordinator_and_no_pixel_changes() {
    let expected = undisturbed();
    let mut farm = Farm::start_replicas(2, 2);
    farm.wait_replica(1, "the second stands by", |status| {
        status["role"] == "standby" && status["coordinators"].as_array().unwrap().len() == 2
    });
    let job = submit(&farm);
    farm.wait_done(&job, 4);
    let killed = Instant::now();
    farm.kill_replica(0);
    wait_active(&farm, 1, killed);
    farm.start_replica(0);
    farm.wait_replica(0, "the first stands by", |status| status["role"] == "standby");

    let done = farm.job(&job)["done"].as_u64().unwrap();
    farm.wait_done(&job, (done + 4).min(TOTAL));
    let stopped = Instant::now();
    farm.signal_replica(1, Signal::STOP);
    wait_active(&farm, 0, stopped);
    let done = farm.job(&job)["done"].as_u64().unwrap();
    farm.wait_done(&job, (done + 2).min(TOTAL));
    farm.signal_replica(1, Signal::CONT);
    farm.wait_replica(1, "the one that was stopped stands by", |status| status["role"] == "standby");

    assert_eq!(finished_digests(&farm, &job), expected, "{}", farm.logs());
    is_sound(&farm);
}

#[test]
fn a_coordinator_told_to_leave_hands_over_and_a_standby_refuses_work_with_the_way_out() {
    let mut farm = Farm::start_replicas(2, 1);
    let (first, second) = (farm.replica_url(0), farm.replica_url(1));
    farm.wait_replica(1, "the second stands by", |status| status["role"] == "standby");
    let job = submit(&farm);
    let file = farm.write("one.txt", "pizza on a green background\n");
    let submission = ["submit", file.to_str().unwrap(), "--model", "emoji-starter", "--coordinator", &second];
    farm.until("the standby knows the active one", || {
        let refused = farm.run(submission);
        assert_eq!(refused.code, 75, "{refused:?}");
        refused.stderr.contains(&first).then_some(())
    });
    let seen = farm.json(["job", &job, "--coordinator", &second]);
    assert_eq!(seen["job"]["id"], job.as_str());

    let gateway = farm.start_gateway();
    let token = std::fs::read_to_string(farm.dir().join("data/client.token")).unwrap();
    let bearer = [format!("Authorization: Bearer {}", token.trim())];
    let through_gateway = || request(gateway.port, "GET", "/api/v1/status", &bearer, "");
    assert_eq!(through_gateway().json()["role"], "active");

    farm.wait_done(&job, 2);
    let told = Instant::now();
    assert_eq!(farm.stop_replica(0), 0, "{}", farm.logs());
    wait_active(&farm, 1, told);
    farm.until("the gateway follows", || {
        let answer = through_gateway();
        (answer.status == 200 && answer.json()["role"] == "active").then_some(())
    });
    assert_eq!(finished_digests(&farm, &job).len() as u64, TOTAL);
    is_sound(&farm);
}
