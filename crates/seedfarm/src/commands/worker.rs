//! `worker`: a node that renders.

mod limits;

use anyhow::Result;
use clap::{Args, Subcommand};
use seedfarm_runtime::shutdown;

use crate::args::data::WORKER_TOKEN;
use crate::args::{ClientArgs, DeviceArgs, FetchArgs, ModelArgs, OwnerArgs};
use crate::exit::Exit;
use crate::local::worker::{Setup, host_name};
use crate::output::Output;

/// Run a worker: renders for a coordinator on this machine's devices
///
/// Told to stop, it finishes the image in the making, hands back the rest and leaves. A coordinator that is
/// away is tried again for ever; what was rendered meanwhile is kept.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  seedfarm worker
  seedfarm worker --coordinator https://farm.example.org:7740 --token TOKEN --devices cuda:0,cuda:1
  seedfarm worker --fetch-models 40GB --model-cache /var/cache/seedfarm
  seedfarm worker --coordinator https://one.example.org:7740,https://two.example.org:7740 --token TOKEN
  seedfarm worker --name second --data-dir /tmp/second --token \"$(cat DATA/worker.token)\"")]
pub struct WorkerArgs {
    #[command(subcommand)]
    pub action: Option<WorkerAction>,

    /// A name for people; without it, this machine's
    #[arg(long, value_name = "NAME", env = "SEEDFARM_WORKER_NAME", hide_env_values = true)]
    pub name: Option<String>,

    #[command(flatten)]
    pub client: ClientArgs,

    #[command(flatten)]
    pub devices: DeviceArgs,

    #[command(flatten)]
    pub models: ModelArgs,

    #[command(flatten)]
    pub fetching: FetchArgs,

    #[command(flatten)]
    pub owner: OwnerArgs,
}

/// What to do with a worker besides running it.
#[derive(Debug, Clone, Subcommand)]
pub enum WorkerAction {
    Limits(limits::LimitsArgs),
}

/// Renders until it is told to stop.
///
/// # Errors
/// If there is no model, a device is not there, or the coordinator refuses the token.
pub async fn run(args: WorkerArgs, output: Output) -> Result<Exit> {
    if let Some(WorkerAction::Limits(args)) = args.action {
        return limits::run(args, output).await;
    }
    let stop = shutdown::on_signals()?;
    let setup = Setup {
        coordinators: args.client.coordinator.clone(),
        authority: args.client.tls_ca.clone(),
        token: args.client.token(WORKER_TOKEN)?,
        name: args.name.unwrap_or_else(host_name),
        data_dir: args.client.data.resolve()?,
    };
    let document = serde_json::json!({
        "name": setup.name,
        "coordinator": setup.coordinators.join(","),
        "data_dir": setup.data_dir.display().to_string(),
    });
    let text = format!("worker {} renders for {}", setup.name, setup.coordinators.join(", "));
    let config = setup.config(&args.models, &args.devices, &args.fetching, &args.owner)?;
    output.result(&document, || text)?;
    seedfarm_worker::run(config, stop).await?;
    Ok(Exit::Done)
}
