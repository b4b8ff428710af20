//! A few rounds of the program that breaks everything on purpose; `cargo xtask chaos` plays as many as wanted.

#![expect(clippy::unwrap_used, reason = "a test panics when something is not as it should be")]

use std::process::Command;

use serde_json::Value;

/// Plays rounds and gives the report.
fn chaos(args: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedfarm-chaos"));
    let output = command.args(args).arg("--json").arg(&json).output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

#[test]
fn whatever_is_killed_or_stopped_nothing_is_lost_doubled_or_drawn_otherwise() {
    let kills =
        "kill-coordinator,kill-worker,kill-postgres,kill-backend,kill-redis,restart-postgres,flush-redis";
    let stops = "stop-coordinator,stop-worker,snapshot";
    let faults = format!("{kills},{stops}");
    let args = ["--rounds", "4", "--seed", "1", "--load", "3", "--real-every", "4", "--faults", &faults];
    let report = chaos(&args);
    assert_eq!(report["clean"], true, "{report}");
    assert_eq!(report["rounds"], 4);
    assert!(report["kills"].as_u64().unwrap() > 0, "{report}");
    assert!(report["work"]["images"].as_u64().unwrap() > 0, "{report}");
}
