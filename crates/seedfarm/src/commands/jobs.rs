//! `jobs`: what was submitted.

use anyhow::Result;
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::text::job::table;

/// List jobs, newest first
#[derive(Debug, Clone, Args)]
pub struct JobsArgs {
    /// Most jobs to list
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,

    /// Also list the one-image jobs that replays run as
    #[arg(long)]
    pub with_replays: bool,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Lists.
///
/// # Errors
/// If the coordinator does not answer.
pub async fn run(args: JobsArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let request = v1::ListJobsRequest { limit: args.limit, with_replays: args.with_replays };
    let jobs = farm.jobs().list_jobs(request).await?.into_inner().jobs;
    let document = json!({ "jobs": jobs.iter().map(json::job).collect::<Vec<_>>() });
    output.result(&document, || table(&jobs))?;
    Ok(Exit::Done)
}
