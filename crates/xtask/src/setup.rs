//! Installing what the tests need: PostgreSQL's programs and `redis-server`.

use std::io::{IsTerminal, stdin};
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::postgres::{self, MINIMUM_MAJOR};
use crate::process;

/// Installs what is missing, and does nothing if nothing is.
///
/// # Errors
/// Where it cannot, with the line to run by hand.
pub fn run() -> anyhow::Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)?;
    let still = missing_packages();
    if !still.is_empty() {
        bail!(
            "{} still missing after the installation; this system's PostgreSQL may be older than \
             {MINIMUM_MAJOR}: see https://www.postgresql.org/download/ for newer packages",
            still.join(" and ")
        );
    }
    Ok(())
}

/// Debian's names of the packages that are needed and absent.
fn missing_packages() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if postgres::installed().is_empty() {
        missing.push("postgresql");
    }
    if process::find_program("redis-server").is_none() {
        missing.push("redis-server");
    }
    missing
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let names = packages.join(" ");
    if process::find_program("apt-get").is_none() {
        bail!(
            "the tests need PostgreSQL {MINIMUM_MAJOR} or newer and Redis; missing here: {names}. \
             Install them with this system's package manager, such as: \
             sudo dnf install -y postgresql-server redis"
        );
    }
    let by_hand = format!("sudo apt-get update && sudo apt-get install -y {names}");
    let root = rustix::process::geteuid().is_root();
    if !root && process::find_program("sudo").is_none() {
        bail!(
            "the tests need {names}, and there is no sudo here; as root, run: {}",
            by_hand.replace("sudo ", "")
        );
    }
    eprintln!("installing for the tests: {names}");
    let apt = |arguments: &[&str]| process::run(&mut apt_get(root, arguments));
    let wanted: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(packages.iter().copied()).collect();
    // The package lists may be absent, as in a fresh container, or too old to be of use.
    apt(&wanted)
        .or_else(|_| apt(&["update"]).and_then(|()| apt(&wanted)))
        .map_err(|error| error.context(format!("could not install {names}; run by hand: {by_hand}")))
}

fn apt_get(root: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root && !stdin().is_terminal() {
        // Nobody could type a password.
        command.arg("--non-interactive");
    }
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        // Another installation may be under way.
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments);
    if root {
        command.stdin(Stdio::null());
    }
    command
}
