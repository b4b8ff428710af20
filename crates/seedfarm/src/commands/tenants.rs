//! `tenants`: those who share the farm.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use seedfarm_core::TenantName;
use seedfarm_core::terms::TenantPolicy;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::human;
use crate::output::Output;
use crate::table::Table;

/// List those who share the farm, or set their shares
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Tenants that have work get device time by their weights. One that has no policy has weight 100 and no limits.

Examples:
  seedfarm tenants
  seedfarm tenants set research --weight 300 --max-devices 8
  seedfarm tenants remove research")]
pub struct TenantsArgs {
    #[command(subcommand)]
    pub action: Option<TenantsAction>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum TenantsAction {
    Set(SetArgs),
    Remove(RemoveArgs),
}

/// Set a tenant's policy; what is left out is without limit
#[derive(Debug, Clone, Args)]
pub struct SetArgs {
    /// The tenant
    #[arg(value_name = "NAME")]
    pub name: TenantName,

    /// Device time relative to other tenants that have work, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = TenantPolicy::default().weight)]
    pub weight: u32,

    /// Most devices that render for it at once
    #[arg(long, value_name = "N")]
    pub max_devices: Option<u32>,

    /// Most images of its unfinished jobs
    #[arg(long, value_name = "N")]
    pub max_images: Option<u64>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Give a tenant the ordinary policy again; its jobs stay
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    /// The tenant
    #[arg(value_name = "NAME")]
    pub name: TenantName,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Lists, after a change if one is asked for.
///
/// # Errors
/// If the coordinator refuses the change.
pub async fn run(args: TenantsArgs, output: Output) -> Result<Exit> {
    let farm = match args.action {
        None => Farm::connect(&args.client).await?,
        Some(TenantsAction::Set(set)) => {
            let farm = Farm::connect(&set.client).await?;
            let SetArgs { name, weight, max_devices, max_images, .. } = set;
            let policy = Some(v1::TenantPolicy { weight, max_devices, max_images });
            farm.farm().set_tenant(v1::SetTenantRequest { name: name.to_string(), policy }).await?;
            farm
        }
        Some(TenantsAction::Remove(remove)) => {
            let farm = Farm::connect(&remove.client).await?;
            farm.farm().remove_tenant(v1::RemoveTenantRequest { name: remove.name.to_string() }).await?;
            farm
        }
    };
    let tenants = farm.farm().list_tenants(v1::ListTenantsRequest {}).await?.into_inner().tenants;
    let document = json!({ "tenants": tenants.iter().map(json::tenant).collect::<Vec<_>>() });
    output.result(&document, || table(&tenants))?;
    Ok(Exit::Done)
}

fn table(tenants: &[v1::Tenant]) -> String {
    let mut table = Table::new([
        "TENANT",
        "WEIGHT",
        "MOST DEVICES",
        "MOST IMAGES",
        "JOBS",
        "WAITING",
        "DONE",
        "DEVICE TIME",
    ]);
    let limit = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    for tenant in tenants {
        let policy = tenant.policy.unwrap_or_default();
        table.row([
            tenant.name.clone(),
            policy.weight.to_string(),
            limit(policy.max_devices.map(u64::from)),
            limit(policy.max_images),
            tenant.jobs.to_string(),
            tenant.waiting.to_string(),
            tenant.done.to_string(),
            human::span(Duration::from_millis(tenant.device_ms)),
        ]);
    }
    table.render()
}
