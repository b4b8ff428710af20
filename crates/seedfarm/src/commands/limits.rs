//! `limits`: most devices at once for a model or a licence.

use anyhow::Result;
use clap::{Args, Subcommand};
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::table::Table;

/// List limits on devices, or set them
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
A job has a limit of its own (submit --max-devices), and so has a tenant (tenants set --max-devices).

Examples:
  seedfarm limits
  seedfarm limits set model big-model 4
  seedfarm limits set licence research-only 2
  seedfarm limits remove model big-model")]
pub struct LimitsArgs {
    #[command(subcommand)]
    pub action: Option<LimitsAction>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum LimitsAction {
    Set(SetArgs),
    Remove(RemoveArgs),
}

/// Let at most so many devices render for a model or a licence at once
#[derive(Debug, Clone, Args)]
pub struct SetArgs {
    #[command(flatten)]
    pub of: LimitRef,

    /// Most devices; 0 keeps its work waiting
    #[arg(value_name = "N")]
    pub max_devices: u32,
}

/// Remove a limit
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    pub of: LimitRef,
}

/// What a limit is for.
#[derive(Debug, Clone, Args)]
pub struct LimitRef {
    /// model or licence
    #[arg(value_name = "KIND", value_parser = ["model", "licence"])]
    pub kind: String,

    /// The model's name, or the licence as the model's card spells it
    #[arg(value_name = "NAME")]
    pub name: String,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Lists, after a change if one is asked for.
///
/// # Errors
/// If the coordinator refuses the change.
pub async fn run(args: LimitsArgs, output: Output) -> Result<Exit> {
    let farm = match args.action {
        None => Farm::connect(&args.client).await?,
        Some(LimitsAction::Set(SetArgs { of, max_devices })) => {
            let farm = Farm::connect(&of.client).await?;
            let limit = Some(v1::Limit { kind: of.kind, name: of.name, max_devices });
            farm.farm().set_limit(v1::SetLimitRequest { limit }).await?;
            farm
        }
        Some(LimitsAction::Remove(RemoveArgs { of })) => {
            let farm = Farm::connect(&of.client).await?;
            farm.farm().remove_limit(v1::RemoveLimitRequest { kind: of.kind, name: of.name }).await?;
            farm
        }
    };
    let limits = farm.farm().list_limits(v1::ListLimitsRequest {}).await?.into_inner().limits;
    let document = json!({ "limits": limits.iter().map(json::limit).collect::<Vec<_>>() });
    output.result(&document, || table(&limits))?;
    Ok(Exit::Done)
}

fn table(limits: &[v1::Limit]) -> String {
    if limits.is_empty() {
        return "no limits".to_owned();
    }
    let mut table = Table::new(["KIND", "NAME", "MOST DEVICES"]);
    for limit in limits {
        table.row([limit.kind.clone(), limit.name.clone(), limit.max_devices.to_string()]);
    }
    table.render()
}
