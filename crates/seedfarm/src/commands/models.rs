//! `models`: what the farm can render with, and whether this machine's models are whole.

mod add;
mod remove;
mod verify;

use anyhow::Result;
use clap::{Args, Subcommand};
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::text::model::{adapter_table, farm_table};

/// List the farm's models, add or remove one, or verify them
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub action: Option<ModelsAction>,

    #[command(flatten)]
    pub list: ListArgs,
}

/// What to do with models.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsAction {
    List(ListArgs),
    Add(add::AddArgs),
    Remove(remove::RemoveArgs),
    Verify(verify::VerifyArgs),
}

/// List the models, LoRAs, embeddings and ControlNets that the farm knows, how many workers have each, and
/// which of them the farm hands out
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Lists, adds, removes or verifies.
///
/// # Errors
/// If the coordinator does not answer, or there is no such model.
pub async fn run(args: ModelsArgs, output: Output) -> Result<Exit> {
    match args.action {
        Some(ModelsAction::Add(args)) => add::run(args, output).await,
        Some(ModelsAction::Remove(args)) => remove::run(args, output).await,
        Some(ModelsAction::Verify(args)) => verify::run(args, output).await,
        Some(ModelsAction::List(args)) => list(args, output).await,
        None => list(args.list, output).await,
    }
}

async fn list(args: ListArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let models = farm.models().list_models(v1::ListModelsRequest {}).await?.into_inner().models;
    let adapters = farm.models().list_adapters(v1::ListAdaptersRequest {}).await?.into_inner().adapters;
    let packages = farm.models().list_packages(v1::ListPackagesRequest {}).await?.into_inner().packages;
    let document = json!({
        "packages": packages.iter().map(json::package).collect::<Vec<_>>(),
        "models": models.iter().map(json::model).collect::<Vec<_>>(),
        "adapters": adapters.iter().map(json::adapter).collect::<Vec<_>>(),
    });
    output.result(&document, || farm_table(&models, &packages) + &adapter_table(&adapters, &packages))?;
    Ok(Exit::Done)
}
