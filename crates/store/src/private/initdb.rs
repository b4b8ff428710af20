//! Making a cluster where there is none, so that an interruption never leaves half of one.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::SUPERUSER;
use super::error::{ClusterError, failed, known_fault};
use super::launch::{isolate, spawn_bound};
use super::log::last_lines;
use super::server::Launch;

/// How long the last process of a killed `initdb` may go on writing.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(10);

/// Makes a cluster in a folder aside and renames it when it is complete and on disk, so that a
/// folder named `pgdata` is always whole.
///
/// Locale C and UTF-8 whatever the user's, and checksums, which are the default from version 18
/// and cannot be added by `pg_upgrade`.
///
/// `initdb` flushes its thousand files one by one, which takes seconds; the file system is
/// flushed once instead, before the rename, which is as durable.
pub(super) fn create_cluster(launch: &Launch<'_>) -> Result<(), ClusterError> {
    let layout = launch.layout;
    remove_unfinished(&layout.unfinished)?;
    let mut initdb = Command::new(launch.binaries.program("initdb"));
    isolate(&mut initdb, launch.account, &layout.home);
    initdb
        .arg("--pgdata")
        .arg(&layout.unfinished)
        .args(["--username", SUPERUSER, "--auth", "trust"])
        .args(["--encoding", "UTF8", "--locale", "C"])
        .args(["--data-checksums", "--no-instructions", "--no-sync"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = spawn_bound(initdb, Signal::KILL)
        .and_then(Child::wait_with_output)
        .map_err(failed("run initdb for", &layout.unfinished))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let otherwise = || ClusterError::Initdb { pgdata: layout.pgdata.clone(), output: last_lines(&said) };
        return Err(known_fault(&said, &layout.home).unwrap_or_else(otherwise));
    }
    close_to_tcp(&layout.unfinished)?;
    File::open(&layout.unfinished)
        .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        .map_err(failed("flush", &layout.unfinished))?;
    fs::rename(&layout.unfinished, &layout.pgdata).map_err(failed("rename", &layout.unfinished))?;
    File::open(&layout.home).and_then(|folder| folder.sync_all()).map_err(failed("flush", &layout.home))
}

/// Should someone start this cluster by hand, it must not trust whoever connects over TCP.
fn close_to_tcp(cluster: &Path) -> Result<(), ClusterError> {
    let rules = cluster.join("pg_hba.conf");
    let text = "# Whoever may enter the private socket folder, and nobody else.\nlocal all all trust\n";
    fs::write(&rules, text).map_err(failed("write", &rules))
}

/// Removes what an interrupted `initdb` left. Its last process may still be writing for a moment
/// after its parent was killed, so a folder that is not empty is tried again.
fn remove_unfinished(folder: &Path) -> Result<(), ClusterError> {
    let deadline = Instant::now() + LEFTOVER_LIMIT;
    loop {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(failed("remove", folder)(error)),
        }
    }
}
