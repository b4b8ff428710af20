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
    let need = format!("the tests need PostgreSQL {MINIMUM_MAJOR} or newer and Redis");
    install(&missing, &need, "sudo dnf install -y postgresql-server redis")?;
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

/// Installs packages with apt, first for a foreign architecture where one of them names it.
///
/// # Errors
/// Where it cannot: `need` says what for, and `elsewhere` how on a system without apt.
pub fn install(packages: &[&str], need: &str, elsewhere: &str) -> anyhow::Result<()> {
    let names = packages.join(" ");
    if process::find_program("apt-get").is_none() {
        bail!(
            "{need}; missing here: {names}. Install them with this system's package manager, such as: \
             {elsewhere}"
        );
    }
    let foreign = packages.iter().any(|name| name.ends_with(":arm64"));
    let architecture = if foreign { "sudo dpkg --add-architecture arm64 && " } else { "" };
    let by_hand = format!("{architecture}sudo apt-get update && sudo apt-get install -y {names}");
    let root = rustix::process::geteuid().is_root();
    if !root && process::find_program("sudo").is_none() {
        bail!("{need}: {names}, and there is no sudo here; as root, run: {}", by_hand.replace("sudo ", ""));
    }
    eprintln!("installing: {names}");
    let wanted: Vec<&str> = APT_GET
        .into_iter()
        .chain(["install", "-y", "--no-install-recommends"])
        .chain(packages.iter().copied())
        .collect();
    let installed = || {
        if foreign {
            as_root(root, &["dpkg", "--add-architecture", "arm64"])?;
        }
        // The package lists may be absent, as in a fresh container, or too old to be of use.
        as_root(root, &wanted).or_else(|_| {
            as_root(root, &[&APT_GET[..], &["update"]].concat())?;
            as_root(root, &wanted)
        })
    };
    installed().map_err(|error| error.context(format!("could not install {names}; run by hand: {by_hand}")))
}

/// apt-get, which waits where another installation is under way.
const APT_GET: [&str; 3] = ["apt-get", "-o", "DPkg::Lock::Timeout=300"];

fn as_root(root: bool, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root && !stdin().is_terminal() {
        // Nobody could type a password.
        command.arg("--non-interactive");
    }
    command.arg("DEBIAN_FRONTEND=noninteractive").args(words);
    if root {
        command.stdin(Stdio::null());
    }
    process::run(&mut command)
}
