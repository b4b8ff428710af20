//! `worker limits`: the owner's limits, whether they are right, and why a device rests.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use seedfarm_worker::owner::{EXAMPLE, LimitsError, LimitsFile, Machine, OwnerState, measure};
use serde_json::json;

use crate::args::DataArgs;
use crate::exit::Exit;
use crate::failure::flatten;
use crate::output::Output;
use crate::text::owner::{Limits, document, text};

/// Show the owner's limits of the worker on this machine, and why its devices rest
///
/// The limits stand in a file, which a running worker reads again when it changes.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm worker limits                                why is my card resting?
  seedfarm worker limits --example > DATA/worker/owner.toml
  seedfarm worker limits --check --limits new.toml      is it right?
  touch DATA/worker/pause                               rest at once, until the file is gone")]
pub struct LimitsArgs {
    /// Print a file with every limit in it, explained and commented out
    #[arg(long)]
    pub example: bool,

    /// Only say whether the file is right
    #[arg(long, conflicts_with = "example")]
    pub check: bool,

    /// File of the owner's limits; without it, worker/owner.toml in the data folder
    #[arg(long, value_name = "FILE", env = "SEEDFARM_LIMITS", hide_env_values = true)]
    pub limits: Option<PathBuf>,

    #[command(flatten)]
    pub data: DataArgs,
}

/// Prints what was asked for.
///
/// # Errors
/// With `--check`, if the file is wrong.
pub async fn run(args: LimitsArgs, output: Output) -> Result<Exit> {
    if args.example {
        output.result(&json!({ "example": EXAMPLE }), || EXAMPLE.to_owned())?;
        return Ok(Exit::Done);
    }
    let data_dir = args.data.resolve()?;
    let worker = OwnerState::read(&data_dir);
    // Without a word from the caller, the file that the running worker keeps to.
    let running = worker.as_ref().map(|state| state.limits_file.clone()).filter(|file| file.exists());
    let file = LimitsFile::locate(&data_dir, args.limits.or(running).as_deref());
    if args.check {
        file.read()?;
        let document = json!({ "path": file.path().display().to_string(), "right": true });
        output.result(&document, || format!("{} is right", file.path().display()))?;
        return Ok(Exit::Done);
    }
    let shown = look(file, worker, &data_dir).await;
    output.result(&document(&shown), || text(&shown))?;
    Ok(Exit::Done)
}

/// What there is to show. Limits that cannot be read say why, and nothing is measured for them.
async fn look(file: LimitsFile, worker: Option<OwnerState>, data_dir: &std::path::Path) -> Limits {
    let devices: Vec<String> = match &worker {
        Some(state) => state.devices.iter().map(|device| device.device.clone()).collect(),
        None => seedfarm_engine::devices().iter().map(|device| device.spec.to_string()).collect(),
    };
    let (limits, error) = match file.read() {
        Ok(limits) => (limits, None),
        Err(error) => (Default::default(), Some(words(error))),
    };
    let (seen, here) = measure(&Machine::here(), &limits, data_dir, &devices).await;
    Limits { file, error, worker, limits, seen, devices: devices.into_iter().zip(here).collect() }
}

fn words(error: LimitsError) -> String {
    flatten(&error.into())
}
