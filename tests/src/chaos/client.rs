//! The client: submits jobs while everything breaks, notes each acknowledgement on its own disk before it
//! goes on, and reads everything back afterwards.

mod calls;
mod load;
mod reading;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use self::calls::Calls;
use self::load::Load;

/// What the farm's workers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// They draw.
    Cheap,
    /// They render with a tiny model.
    Real,
}

/// How a client is started.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Addresses of the coordinators
    #[arg(long, value_delimiter = ',')]
    pub url: Vec<String>,
    /// The clients' token
    #[arg(long)]
    pub token: String,
    /// Where its notes lie
    #[arg(long)]
    pub folder: PathBuf,
    /// The round's seed
    #[arg(long)]
    pub seed: u64,
    /// What the workers are
    #[arg(long)]
    pub kind: Kind,
    /// Milliseconds of load
    #[arg(long)]
    pub load_ms: u64,
    /// Seconds until everything must be finished after that
    #[arg(long, default_value_t = 120)]
    pub patience: u64,
}

/// What the client found, written to `findings.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Jobs that were acknowledged.
    pub jobs: u64,
    /// Images in them.
    pub images: u64,
    /// Acknowledged and not there any more: images.
    pub lost: u64,
    /// Images that are there twice, and jobs that are.
    pub duplicated: u64,
    /// Images without a result in the end.
    pub unaccounted: u64,
    /// Images with a recipe or pixels other than they must have.
    pub unequal: u64,
    /// What was wrong, in words.
    pub notes: Vec<String>,
}

/// One image that is there in the end, a line of `images.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The job.
    pub job: String,
    /// The image.
    pub index: u64,
    /// Its seed.
    pub seed: u64,
    /// The digest of its pixels.
    pub pixels: String,
    /// Who made it.
    pub worker: String,
    /// With which attempt.
    pub attempt: i32,
}

/// An acknowledged job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acknowledged {
    id: String,
    seed: u64,
    total: u64,
    prompt: String,
}

/// Submits, waits, reads back; writes `findings.json` and `images.json`.
///
/// # Errors
/// If its folder cannot be written.
pub async fn run(args: ClientArgs) -> Result<()> {
    let deadline = Duration::from_millis(args.load_ms) + Duration::from_secs(args.patience);
    let mut calls = Calls::new(&args.url, &args.token, deadline)?;
    let mut load = Load::begin(&args)?;
    let mut findings = Findings::default();
    if let Err(error) = load.run(&mut calls, &mut findings).await {
        findings.notes.push(format!("the load ended early: {error:#}"));
    }
    let images = reading::run(&mut calls, &load, args.kind, &mut findings).await;
    write(&args, "findings.json", &serde_json::to_vec_pretty(&findings)?)?;
    write(&args, "images.json", &serde_json::to_vec(&images)?)
}

fn write(args: &ClientArgs, name: &str, bytes: &[u8]) -> Result<()> {
    let path = args.folder.join(name);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
