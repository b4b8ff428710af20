//! PostgreSQL and Redis for a farm, and volumes that can be full.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Role and database.
pub const NAME: &str = "seedfarm";
/// Bytes that are written at once when a volume is filled.
const BLOCK: usize = 1 << 16;

/// PostgreSQL's programs, and an empty cluster that every round begins with a copy of.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    template: PathBuf,
}

impl Postgres {
    /// Finds the newest programs and makes the cluster below `folder`.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or cannot be run.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let programs = programs().context("PostgreSQL is not installed: run cargo xtask setup")?;
        let template = own(&folder.join("template"))?;
        let postgres = Self { programs, template };
        let cluster = postgres.template.join("pgdata");
        let mut initdb = postgres.command("initdb");
        initdb.arg("-D").arg(&cluster);
        run(initdb.args(["-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]))?;
        let rules = cluster.join("pg_hba.conf");
        let mut text = std::fs::read_to_string(&rules)?;
        text.push_str("host all all 10.77.0.0/16 trust\n");
        std::fs::write(&rules, text)?;
        let options = format!("-k {} -c listen_addresses=", postgres.template.display());
        let control = |verb: &[&str]| {
            let mut pg_ctl = postgres.command("pg_ctl");
            pg_ctl.arg("-D").arg(&cluster).args(["-s", "-w"]).args(verb);
            pg_ctl.arg("-l").arg(postgres.template.join("log"));
            run(&mut pg_ctl)
        };
        control(&["-o", &options, "start"])?;
        let created = postgres.query(&postgres.template, 5432, "postgres", "create database seedfarm");
        control(&["-m", "fast", "stop"])?;
        created?;
        Ok(postgres)
    }

    /// Copies the cluster into `folder`, which must be PostgreSQL's own.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        run(Command::new("cp").arg("-a").arg(self.template.join("pgdata")).arg(folder))
    }

    /// The command that runs a server on the cluster in `folder`, after the words `before`.
    pub fn server(&self, before: &[String], folder: &Path, address: &str, port: u16) -> Command {
        let mut words: Vec<String> = before.to_vec();
        words.extend(as_postgres());
        words.push(self.programs.join("postgres").display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("-D").arg(folder.join("pgdata")).arg("-k").arg(folder);
        command.arg("-p").arg(port.to_string()).arg("-c").arg(format!("listen_addresses={address}"));
        for setting in ["shared_buffers=32MB", "max_wal_size=64MB", "min_wal_size=32MB", "max_connections=60"]
        {
            command.args(["-c", setting]);
        }
        command.env("LC_ALL", "C").current_dir(folder);
        command
    }

    /// Runs a statement on the server in `folder`.
    ///
    /// # Errors
    /// If it fails.
    pub fn query(&self, folder: &Path, port: u16, database: &str, statement: &str) -> Result<()> {
        run(&mut self.psql(folder, port, database, statement))
    }

    /// The command that runs statements on the server in `folder`.
    pub fn psql(&self, folder: &Path, port: u16, database: &str, statements: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "-U", NAME, "-d", database, "-p", &port.to_string(), "-h"]);
        psql.arg(folder).args(["-c", statements]).stdin(Stdio::null());
        psql
    }

    fn command(&self, program: &str) -> Command {
        let mut words = as_postgres();
        words.push(self.programs.join(program).display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("LC_ALL", "C").current_dir(&self.template);
        command
    }
}

/// PostgreSQL does not run as root.
fn as_postgres() -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let words =
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "INT", "--"];
    words.map(str::to_owned).to_vec()
}

/// A folder that is PostgreSQL's own.
///
/// # Errors
/// If it cannot be made or given away.
pub fn own(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(folder))?;
    }
    Ok(folder.to_owned())
}

fn programs() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let major = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = entries.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").is_file());
    newest.max_by_key(|path| major(path)).map(|path| path.join("bin"))
}

/// Processes of a server that serve a connection to the farm's database.
pub fn backends(server: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| parent(pid) == Some(server) && title(pid).starts_with("postgres: seedfarm")).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn title(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The command that runs Redis.
pub fn redis(before: &[String], folder: &Path, address: &str, port: u16) -> Command {
    let mut words = before.to_vec();
    words.push("redis-server".to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--bind", address, "--port", &port.to_string()]);
    command.args(["--protected-mode", "no", "--save", "", "--appendonly", "no"]);
    command.arg("--unixsocket").arg(folder.join("redis.sock")).current_dir(folder);
    command
}

/// Makes Redis forget everything; false if it does not answer.
pub fn flush_redis(folder: &Path) -> bool {
    let flush = || -> std::io::Result<[u8; 5]> {
        let mut stream = UnixStream::connect(folder.join("redis.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"FLUSHALL\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    flush().is_ok_and(|answer| &answer == b"+OK\r\n")
}

/// A small volume in memory, gone when dropped.
#[derive(Debug)]
pub struct Volume(PathBuf);

impl Volume {
    /// Mounts one of so many MiB.
    ///
    /// # Errors
    /// If this machine does not allow it.
    pub fn mount(folder: PathBuf, mib: u64) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let size = format!("size={mib}m,mode=755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&folder))?;
        Ok(Self(folder))
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// If it cannot be written for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = std::fs::File::options().create(true).append(true).open(self.ballast())?;
        loop {
            match ballast.write(&[0; BLOCK]) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes room again.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn empty(&self) -> Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: what still runs there ends by itself.
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be run, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!("{shown} {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
