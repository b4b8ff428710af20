//! A coordinator in a process of its own, so that what it uses can be told from what its clients use.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Scratch;

/// A coordinator with a private database that flushes what it acknowledges.
#[derive(Debug)]
pub(super) struct Coordinator {
    child: Child,
    pub(super) url: String,
    pub(super) client_token: String,
    pub(super) worker_token: String,
    /// One line about the database.
    pub(super) database: String,
    _scratch: Scratch,
}

/// What `seedfarm coordinator --json` prints.
#[derive(Debug, Deserialize)]
struct Document {
    url: String,
    database: String,
    client_token_file: PathBuf,
    worker_token_file: PathBuf,
}

impl Coordinator {
    /// Starts this program as a coordinator and waits until it answers.
    ///
    /// # Errors
    /// If it ends instead.
    pub(super) async fn start(pg_bin: Option<&PathBuf>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut command = Command::new(std::env::current_exe().context("this program's path is unknown")?);
        command.args(["coordinator", "--json", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(scratch.path().join("data"));
        if let Some(folder) = pg_bin {
            command.arg("--pg-bin").arg(folder);
        }
        for variable in
            ["DATABASE_URL", "SEEDFARM_BLOBS", "REDIS_URL", "SEEDFARM_TLS_CERT", "SEEDFARM_TLS_KEY"]
        {
            command.env_remove(variable);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("the coordinator has no standard output")?;
        let Some(line) = BufReader::new(stdout).lines().next_line().await? else {
            bail!("the coordinator ended ({}): it says above why", child.wait().await?);
        };
        let document: Document = serde_json::from_str(&line).context("the coordinator's document")?;
        let token = |file: PathBuf| -> Result<String> { Ok(fs::read_to_string(file)?.trim().to_owned()) };
        Ok(Self {
            child,
            url: document.url,
            client_token: token(document.client_token_file)?,
            worker_token: token(document.worker_token_file)?,
            database: document.database,
            _scratch: scratch,
        })
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Memory that it has in use, in bytes; 0 where the system does not tell.
    pub(super) fn memory_bytes(&self) -> u64 {
        let status = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Stops it and its database, and waits for both.
    ///
    /// # Errors
    /// If it does not end well.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.context("the coordinator has ended already: it says above why")?, Signal::TERM)?;
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { bail!("the coordinator ended with {status}") }
    }
}
