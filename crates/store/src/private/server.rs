//! The server process: starting it, waiting until it is ready, stopping it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Durability;
use super::account::Account;
use super::binaries::Binaries;
use super::error::{ClusterError, failed, known_fault};
use super::folder::{Layout, PORT};
use super::launch::{isolate, spawn_bound};
use super::log::{last_lines, read_from};
use super::pidfile::PidFile;

/// How long to wait for a server that a dead starter left behind.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(10);
/// The same while that server says that it is stopping.
const STOPPING_LIMIT: Duration = Duration::from_secs(60);
/// How long recovery after a crash may take.
const READY_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long a clean stop may take before it is forced.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long a forced stop may take.
const FORCED_STOP_LIMIT: Duration = Duration::from_secs(15);
/// Between two looks at a process.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two starts on a cluster whose last server is not quite gone.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What a server is started from.
pub(super) struct Launch<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) account: &'a Account,
    pub(super) layout: &'a Layout,
}

/// A running server. Dropping it stops it and blocks until it has ended.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
}

impl Server {
    /// Starts the server and waits until it takes connections.
    ///
    /// A server left behind by a dead starter is waited for: it was told to stop when that
    /// starter died, and its process id file may outlive it by a moment. `settings` win over
    /// postgresql.conf.
    pub(super) fn start(launch: &Launch<'_>, settings: &[Setting]) -> Result<Self, ClusterError> {
        let begun = Instant::now();
        loop {
            let said = match attempt(launch, settings)? {
                Attempt::Ready(server) => return Ok(server),
                Attempt::Ended(said) => said,
            };
            let left = PidFile::read(&launch.layout.pgdata);
            let patience = match &left {
                Some(left) if left.is_stopping() => STOPPING_LIMIT,
                _ => LEFTOVER_LIMIT,
            };
            match conflict(&said, launch.layout, left.as_ref()) {
                Some(_) if begun.elapsed() < patience => thread::sleep(RETRY_PAUSE),
                Some(conflict) => return Err(conflict),
                None => return Err(start_failed(&said, launch.layout)),
            }
        }
    }

    /// Stops the server cleanly: open transactions are rolled back and a checkpoint is written.
    ///
    /// A server that takes too long is stopped at once; its next start then recovers from the log.
    pub(super) fn stop(&mut self) -> Result<(), ClusterError> {
        for (signal, limit) in [(Signal::INT, STOP_LIMIT), (Signal::QUIT, FORCED_STOP_LIMIT)] {
            self.signal(signal);
            if self.ends_within(limit) {
                return Ok(());
            }
        }
        Err(ClusterError::StopTimedOut {
            pid: self.child.id(),
            limit_s: (STOP_LIMIT + FORCED_STOP_LIMIT).as_secs(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&mut self, signal: Signal) {
        // Once reaped, the id may be another's; until then it is ours even if the server ended.
        let reaped = !matches!(self.child.try_wait(), Ok(None));
        if !reaped {
            // The process exists, so sending can fail only for want of permission, and then the
            // wait that follows runs out and reports it.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the private database did not stop");
        }
    }
}

/// How one start went.
enum Attempt {
    Ready(Server),
    /// The process ended; what it wrote to the log.
    Ended(String),
}

fn attempt(launch: &Launch<'_>, settings: &[Setting]) -> Result<Attempt, ClusterError> {
    let layout = launch.layout;
    let log = layout.open_log(launch.account)?;
    let log_start = log.metadata().map_err(failed("read", &layout.log))?.len();
    let mut command = server_command(launch, settings);
    command.stdout(Stdio::null()).stderr(log);
    let program = launch.binaries.program("postgres");
    let child = spawn_bound(command, Signal::INT).map_err(failed("run", &program))?;
    let mut server = Server { child };
    let deadline = Instant::now() + READY_LIMIT;
    while Instant::now() < deadline {
        if let Some(status) = server.child.try_wait().map_err(failed("wait for", &program))? {
            let mut said = read_from(&layout.log, log_start);
            if let Some(signal) = status.signal() {
                said.push_str(&format!("\n(ended by signal {signal})"));
            }
            return Ok(Attempt::Ended(said));
        }
        let state = PidFile::read(&layout.pgdata);
        if state.is_some_and(|state| state.pid == server.pid() && state.is_ready()) {
            return Ok(Attempt::Ready(server));
        }
        thread::sleep(PAUSE);
    }
    Err(ClusterError::StartTimedOut {
        limit_s: READY_LIMIT.as_secs(),
        log: layout.log.clone(),
        tail: last_lines(&read_from(&layout.log, log_start)),
    })
}

fn server_command(launch: &Launch<'_>, settings: &[Setting]) -> Command {
    let layout = launch.layout;
    let mut command = Command::new(launch.binaries.program("postgres"));
    isolate(&mut command, launch.account, &layout.home);
    own_process_group(&mut command);
    if let Some(stranger) = PidFile::read(&layout.pgdata).filter(PidFile::names_a_stranger) {
        // PostgreSQL takes an id in this variable for its own starter's, hence not for another
        // server, and still checks that no shared memory of that server is in use.
        command.env("PG_GRANDPARENT_PID", stranger.pid.to_string());
    }
    command.arg("-D").arg(&layout.pgdata);
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
}

/// Ctrl-C in a terminal reaches the foreground process group; the database must outlive the
/// orderly end of the process that uses it.
fn own_process_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

/// A name and a value.
pub(super) type Setting = (&'static str, String);

/// Settings of the server that must not be changed in postgresql.conf, as the command line wins.
pub(super) fn settings(socket: &Path, durability: Durability) -> Vec<Setting> {
    // A list of folders, so a comma or a quote in the path is quoted.
    let socket = format!("\"{}\"", socket.to_string_lossy().replace('"', "\"\""));
    let synchronous_commit = match durability {
        Durability::Full => "on",
        Durability::Relaxed => "off",
    };
    let text = |value: &str| value.to_owned();
    vec![
        ("listen_addresses", String::new()),
        ("port", PORT.to_string()),
        ("unix_socket_directories", socket),
        ("unix_socket_permissions", text("0700")),
        ("fsync", text("on")),
        ("full_page_writes", text("on")),
        ("synchronous_commit", text(synchronous_commit)),
        // Flush the whole file system once instead of every file: 0.2 s instead of 5 s.
        ("recovery_init_sync_method", text("syncfs")),
        ("max_connections", text("200")),
        // Parallel queries need dynamic shared memory, which containers keep small.
        ("max_parallel_workers_per_gather", text("0")),
        ("jit", text("off")),
        ("cluster_name", text("seedfarm")),
        ("timezone", text("UTC")),
        ("log_timezone", text("UTC")),
        ("log_line_prefix", text("%m [%p] ")),
        ("logging_collector", text("off")),
        ("log_destination", text("stderr")),
    ]
}

/// The error for another server, or what is left of one, on the same cluster.
fn conflict(said: &str, layout: &Layout, left: Option<&PidFile>) -> Option<ClusterError> {
    if said.contains("pre-existing shared memory block") {
        return Some(ClusterError::Orphan { pgdata: layout.pgdata.clone() });
    }
    let locked = said.contains("lock file") && said.contains("already exists");
    locked.then(|| ClusterError::ServerRuns {
        pgdata: layout.pgdata.clone(),
        pid: left.map_or_else(|| "unknown".to_owned(), |left| left.pid.to_string()),
    })
}

fn start_failed(said: &str, layout: &Layout) -> ClusterError {
    known_fault(said, &layout.home)
        .unwrap_or_else(|| ClusterError::Start { log: layout.log.clone(), tail: last_lines(said) })
}
