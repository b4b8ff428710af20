//! Building and running the program that breaks a farm on purpose.
//!
//! It is a program of its own in the package `tests`: this one is to compile quickly.

use std::env::consts::EXE_SUFFIX;
use std::process::Command;

use anyhow::bail;

use crate::process::{cargo, find_program, output, root, run};
use crate::setup;

/// Programs that faults of the network and of clocks need, with Debian's names of their packages.
const PROGRAMS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("iptables", "iptables"), ("faketime", "faketime"), ("setpriv", "util-linux")];

/// Builds, then runs with `arguments`.
///
/// # Errors
/// If it cannot be built, or does not end well.
pub fn start(arguments: &[&str]) -> anyhow::Result<()> {
    setup::run()?;
    if let Err(why) = install() {
        eprintln!("some faults cannot happen: {why:#}");
    }
    run(cargo(&["build", "--release", "-p", "seedfarm", "-p", "seedfarm-tests", "--bins"])
        .env("SQLX_OFFLINE", "true"))?;
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let Some(target) = metadata["target_directory"].as_str() else {
        bail!("cargo metadata names no target folder");
    };
    let program = format!("{target}/release/seedfarm-chaos{EXE_SUFFIX}");
    run(Command::new(program).args(arguments).current_dir(root()))
}

/// Installs what is missing; without it, the program says which faults are not run.
fn install() -> anyhow::Result<()> {
    let missing = PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let need = "faults of the network and of clocks need some programs";
    setup::install(&missing, need, "sudo dnf install -y iproute iptables libfaketime util-linux")
}
