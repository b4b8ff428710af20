//! `workers`: who renders.

use anyhow::Result;
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::text::worker::table;

/// List workers, or tell one to leave
#[derive(Debug, Clone, Args)]
pub struct WorkersArgs {
    /// Tell this worker to finish what it holds and leave
    #[arg(long, value_name = "WORKER")]
    pub drain: Option<String>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Lists, after draining if asked to.
///
/// # Errors
/// If the coordinator does not answer, or there is no such worker.
pub async fn run(args: WorkersArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    if let Some(worker_id) = args.drain {
        farm.farm().drain_worker(v1::DrainWorkerRequest { worker_id }).await?;
    }
    let workers = farm.farm().list_workers(v1::ListWorkersRequest {}).await?.into_inner().workers;
    let document = json!({ "workers": workers.iter().map(json::worker).collect::<Vec<_>>() });
    output.result(&document, || table(&workers))?;
    Ok(Exit::Done)
}
