//! `models`: what the farm can render with, and whether this machine's models are whole.

use anyhow::Result;
use clap::{Args, Subcommand};
use seedfarm_core::Numerics;
use seedfarm_engine::{DeviceSpec, Model};
use seedfarm_proto::{json, v1};
use serde_json::{Value, json};

use crate::args::models::LocalModel;
use crate::args::{ClientArgs, ModelArgs};
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::{Output, to_stderr};
use crate::text::model::{adapter_table, farm_table, local_table};

/// List the farm's models, or verify those on this machine
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
    Verify(VerifyArgs),
}

/// List the models, LoRAs, embeddings and ControlNets that the farm knows, and how many workers have each
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Digest every file of the models on this machine, hold it against the manifest, and load the weights
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub models: ModelArgs,
}

/// Lists or verifies.
///
/// # Errors
/// If the coordinator does not answer, or there is no model.
pub async fn run(args: ModelsArgs, output: Output) -> Result<Exit> {
    match args.action {
        Some(ModelsAction::Verify(args)) => {
            tokio::task::spawn_blocking(move || verify(&args.models, output)).await?
        }
        Some(ModelsAction::List(args)) => list(args, output).await,
        None => list(args.list, output).await,
    }
}

async fn list(args: ListArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let models = farm.models().list_models(v1::ListModelsRequest {}).await?.into_inner().models;
    let adapters = farm.models().list_adapters(v1::ListAdaptersRequest {}).await?.into_inner().adapters;
    let document = json!({
        "models": models.iter().map(json::model).collect::<Vec<_>>(),
        "adapters": adapters.iter().map(json::adapter).collect::<Vec<_>>(),
    });
    output.result(&document, || farm_table(&models) + &adapter_table(&adapters))?;
    Ok(Exit::Done)
}

fn verify(args: &ModelArgs, output: Output) -> Result<Exit> {
    let models = args.load()?;
    let checked: Vec<(LocalModel, Result<(), seedfarm_engine::Error>)> =
        models.into_iter().map(|model| (model.clone(), load(&model))).collect();
    let documents: Vec<Value> = checked.iter().map(|(model, outcome)| document(model, outcome)).collect();
    let whole = checked.iter().all(|(_, outcome)| outcome.is_ok());
    for (model, outcome) in &checked {
        if let Err(error) = outcome {
            to_stderr(&format!("error: {}: {error}", model.folder.display()));
        }
    }
    let models: Vec<LocalModel> = checked.into_iter().map(|(model, _)| model).collect();
    output.result(&json!({ "whole": whole, "models": documents }), || local_table(&models))?;
    if whole {
        output.note("every file has the digest that its manifest names, and every tensor is there");
    }
    Ok(if whole { Exit::Done } else { Exit::Failed })
}

fn load(model: &LocalModel) -> Result<(), seedfarm_engine::Error> {
    Model::load(&model.folder, &DeviceSpec::Cpu, Numerics::Strict, 1).map(drop)
}

fn document(model: &LocalModel, outcome: &Result<(), seedfarm_engine::Error>) -> Value {
    json!({
        "name": model.manifest.name,
        "digest": model.manifest.digest(),
        "folder": model.folder.display().to_string(),
        "whole": outcome.is_ok(),
        "error": outcome.as_ref().err().map(ToString::to_string),
        "manifest": model.manifest,
    })
}
