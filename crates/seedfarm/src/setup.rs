//! Installing PostgreSQL where it is missing and the user asked for it.

use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use seedfarm_store::private::{ClusterError, find_programs};

use crate::failure::Failure;
use crate::output::to_stderr;

/// The package that brings `postgres` and `initdb`.
const PACKAGE: &str = "postgresql";

/// Makes sure that a private database can be started in `data_dir`, installing PostgreSQL through apt if
/// it is missing. Says what it does.
///
/// # Errors
/// If it is missing and cannot be installed; the message holds the line to run by hand.
pub fn install_postgresql(data_dir: &Path, pg_bin: Option<&Path>) -> Result<()> {
    match find_programs(data_dir, pg_bin) {
        Err(missing @ ClusterError::NoBinaries { .. }) => install(&missing)?,
        found => return Ok(found.map(drop)?),
    }
    find_programs(data_dir, pg_bin).context("PostgreSQL was installed, but is not to be found")?;
    Ok(())
}

fn install(missing: &ClusterError) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if program("apt-get").is_none() || !(root || program("sudo").is_some()) {
        return Err(Failure::failed("NO_POSTGRESQL", missing.to_string()).into());
    }
    to_stderr("PostgreSQL is missing: installing it with apt-get install postgresql");
    // The package lists may be absent, as in a fresh container, or too old to be of use.
    let wanted = ["install", "-y", "--no-install-recommends", PACKAGE];
    let installed = apt(root, &wanted)? || (apt(root, &["update"])? && apt(root, &wanted)?);
    if installed {
        return Ok(());
    }
    Err(Failure::failed("NO_POSTGRESQL", format!("apt-get could not install PostgreSQL: {missing}")).into())
}

/// Runs apt-get with its output on standard error; whether it succeeded.
fn apt(root: bool, arguments: &[&str]) -> Result<bool> {
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root && !stdin().is_terminal() {
        // Nobody could type a password.
        command.arg("--non-interactive");
    }
    if root {
        command.stdin(Stdio::null());
    }
    // Another installation may be under way.
    let status = command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .stdout(std::io::stderr())
        .status()
        .context("apt-get cannot be started")?;
    Ok(status.success())
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
