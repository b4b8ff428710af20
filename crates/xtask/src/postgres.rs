//! A throw-away PostgreSQL server for checking queries, from installed programs alone.
//!
//! The store crate has a better one, and cannot be used here: this one must run when that crate
//! does not compile, which is when the query cache is renewed.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Scratch, output, run, spawn_bound};

/// The oldest version supported; the store crate holds servers against it.
pub const MINIMUM_MAJOR: u32 = 15;

/// How long a start or a stop may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Role and database.
const NAME: &str = "seedfarm";

/// Folders of programs of a supported version, oldest first.
pub fn installed() -> Vec<(u32, PathBuf)> {
    let below = |parent: &str, prefix: &str| -> Vec<(u32, PathBuf)> {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let major = name.strip_prefix(prefix)?.parse().ok()?;
                Some((major, entry.path().join("bin")))
            })
            .collect()
    };
    let mut found = below("/usr/lib/postgresql", "");
    found.extend(below("/usr", "pgsql-"));
    found.retain(|(major, folder)| {
        let whole = ["postgres", "initdb", "psql"].iter().all(|name| folder.join(name).is_file());
        *major >= MINIMUM_MAJOR && whole
    });
    found.sort();
    found
}

/// A running server with an empty database; dropping it ends it and removes its folder.
pub struct Server {
    child: Child,
    programs: PathBuf,
    folder: Scratch,
}

impl Server {
    /// Starts a server of the oldest supported version that is installed, so that what is found
    /// out from it does not depend on which newer ones are.
    ///
    /// # Errors
    /// If none is installed or it does not start.
    pub fn start() -> anyhow::Result<Self> {
        let (major, programs) =
            installed().into_iter().next().context("PostgreSQL is not installed; run: cargo xtask setup")?;
        eprintln!("starting a throw-away PostgreSQL {major}");
        let folder = Scratch::create("postgres")?;
        let user = ServerUser::choose()?;
        user.own(folder.path())?;
        let cluster = folder.path().join("pgdata");
        let mut initdb = user.command(&programs.join("initdb"), folder.path());
        initdb.arg("-D").arg(&cluster).args([
            "-U",
            NAME,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        output(&mut initdb)?;
        let mut postgres = user.command(&programs.join("postgres"), folder.path());
        postgres.arg("-D").arg(&cluster).arg("-k").arg(folder.path());
        postgres.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_min_messages=fatal"]);
        let child = spawn_bound(&mut postgres, Signal::INT).context("cannot run postgres")?;
        let mut server = Self { child, programs, folder };
        server.wait_until_ready(&cluster)?;
        server.query("postgres", &["-c", "create database seedfarm"])?;
        Ok(server)
    }

    /// The address of the database for sqlx.
    pub fn url(&self) -> String {
        format!("postgres://{NAME}@localhost/{NAME}?host={}", self.folder.path().display())
    }

    /// Runs a file of statements in one transaction.
    ///
    /// # Errors
    /// At the first statement that fails.
    pub fn apply(&self, file: &Path) -> anyhow::Result<()> {
        let file = file.to_str().context("the path of a migration is text")?;
        self.query(NAME, &["--single-transaction", "--file", file]).with_context(|| format!("{file} failed"))
    }

    fn query(&self, database: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.env_clear()
            .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "-U", NAME, "-d", database])
            .arg("-h")
            .arg(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null());
        run(&mut psql)
    }

    /// The server writes `ready` into line 8 of its process id file.
    fn wait_until_ready(&mut self, cluster: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("postgres ended: {status}");
            }
            let state = fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|status| status.trim() == "ready") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("postgres was not ready within {} s", LIMIT.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediately: nothing in it is kept. If it has ended by itself, there is nothing to do.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// PostgreSQL does not run as root, so root drops to `postgres`, which its package makes.
struct ServerUser(Option<(u32, u32)>);

impl ServerUser {
    fn choose() -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let ids = users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields.as_slice() {
                ["postgres", _, uid, gid, ..] => Some((uid.parse().ok()?, gid.parse().ok()?)),
                _ => None,
            }
        });
        let ids = ids.context("there is no user `postgres` to run PostgreSQL as")?;
        Ok(Self(Some(ids)))
    }

    fn own(&self, folder: &Path) -> anyhow::Result<()> {
        if let Some((uid, gid)) = self.0 {
            chown(folder, Some(uid), Some(gid)).context("cannot give the scratch folder away")?;
        }
        Ok(())
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir(folder);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}
