//! `doctor`: what is missing, and how to mend it.

mod checks;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::args::{ClientArgs, ModelArgs, StorageArgs};
use crate::exit::Exit;
use crate::output::Output;

/// Say what is missing on this machine, and how to mend it
///
/// Ends with exit code 1 if something that is needed is missing. A coordinator that does not run and a Redis
/// that is not there are told, and are no fault.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub client: ClientArgs,

    #[command(flatten)]
    pub storage: StorageArgs,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Fine,
    /// Seedfarm works without it, or not as well.
    Note,
    /// Seedfarm does not work like this.
    Missing,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    fix: Option<String>,
}

impl Check {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Fine, found: found.into(), fix: None }
    }

    fn note(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Note, found: found.into(), fix: Some(fix.into()) }
    }

    fn missing(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Missing, found: found.into(), fix: Some(fix.into()) }
    }

    fn line(&self) -> String {
        let mark = match self.state {
            State::Fine => "ok     ",
            State::Note => "note   ",
            State::Missing => "MISSING",
        };
        let fix = self.fix.as_ref().map(|fix| format!("\n{:21}-> {fix}", "")).unwrap_or_default();
        format!("{mark}  {:<11} {}{fix}", self.name, self.found)
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    fine: bool,
    checks: Vec<Check>,
}

/// Examines.
///
/// # Errors
/// Never: what cannot be examined is a finding.
pub async fn run(args: DoctorArgs, output: Output) -> Result<Exit> {
    let checks = checks::all(&args).await;
    let fine = checks.iter().all(|check| check.state != State::Missing);
    let document = Document { fine, checks };
    output.result(&document, || document.checks.iter().map(Check::line).collect::<Vec<_>>().join("\n"))?;
    Ok(if fine { Exit::Done } else { Exit::Failed })
}
