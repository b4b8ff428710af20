//! Programs that measure: run again and again beside everything else, the newest answer at hand.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seedfarm_core::owner::Reading;
use tokio::process::Command;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Between the end of a run and the next.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer that is older is none.
const FRESH: Duration = Duration::from_secs(15);

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Its exit code.
    pub code: i32,
    pub stdout: String,
}

type Seen = Arc<Mutex<Option<(Instant, Reading<Run>)>>>;

/// A program that is run until this is dropped.
#[derive(Debug)]
pub(super) struct Repeated {
    name: String,
    seen: Seen,
    task: AbortHandle,
}

impl Repeated {
    /// Begins to run `program` with `arguments`.
    pub(super) fn start(program: OsString, arguments: &[&str]) -> Self {
        let name = program.to_string_lossy().into_owned();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let seen = Seen::default();
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let run = run(&program, &arguments).await;
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), run));
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { name, seen, task: task.abort_handle() }
    }

    /// Whether it has answered.
    pub(super) fn has_answered(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The newest answer.
    pub(super) fn latest(&self) -> Reading<Run> {
        match &*self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err(format!("{} has not answered yet", self.name)),
            Some((at, _)) if at.elapsed() > FRESH => Err(format!("{} does not answer", self.name)),
            Some((_, answer)) => answer.clone(),
        }
    }

    /// What it printed when it succeeded.
    pub(super) fn output(&self) -> Reading<String> {
        match self.latest()? {
            Run { code: 0, stdout } => Ok(stdout),
            Run { code, .. } => Err(format!("{} ended with code {code}", self.name)),
        }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(program: &OsString, arguments: &[String]) -> Reading<Run> {
    let name = program.to_string_lossy();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(output) => output.map_err(|error| format!("{name} cannot be run: {error}"))?,
        Err(_) => return Err(format!("{name} takes more than {} seconds", PATIENCE.as_secs())),
    };
    let code = output.status.code().ok_or_else(|| format!("{name} was ended by a signal"))?;
    Ok(Run { code, stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
}
