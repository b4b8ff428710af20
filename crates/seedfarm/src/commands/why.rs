//! `why`: what keeps a job waiting or a worker idle.

use anyhow::Result;
use clap::Args;
use seedfarm_proto::{json, v1};

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::text::why::text;

/// Say why a job waits, or why a worker has nothing to do
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm why JOB
  seedfarm why WORKER --json")]
pub struct WhyArgs {
    /// A job or a worker
    #[arg(value_name = "JOB|WORKER")]
    pub id: String,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Says it.
///
/// # Errors
/// If the coordinator does not answer, or there is no such job or worker.
pub async fn run(args: WhyArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let answer = farm.farm().explain(v1::ExplainRequest { id: args.id }).await?.into_inner();
    output.result(&json::explanation(&answer), || text(&answer))?;
    Ok(Exit::Done)
}
