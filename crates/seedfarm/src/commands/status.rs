//! `status`: the farm in a few lines.

use anyhow::Result;
use clap::Args;
use seedfarm_proto::{json, v1};

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::human;
use crate::output::Output;
use crate::table::facts;

/// Show the farm in a few lines
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Shows it.
///
/// # Errors
/// If the coordinator does not answer.
pub async fn run(args: StatusArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let status = farm.farm().get_status(v1::GetStatusRequest {}).await?.into_inner();
    output.result(&json::status(&status), || {
        let asked = args.client.coordinator.join(", ");
        let here = format!("{asked}, version {}, {}", status.version, json::role(status.role()));
        let mut rows = vec![
            ("coordinator", here),
            ("database", status.database.clone()),
            ("epoch", status.epoch.to_string()),
            ("workers", format!("{}, devices: {}", status.workers, status.devices)),
            ("jobs", format!("{} active, {} leases", status.active_jobs, status.leases)),
            ("images", status.images.to_string()),
        ];
        rows.extend(status.coordinators.iter().map(|coordinator| ("replica", replica(coordinator))));
        facts(&rows)
    })?;
    Ok(Exit::Done)
}

/// One of the farm's coordinators, in a line.
fn replica(coordinator: &v1::Coordinator) -> String {
    let (role, seen) = (json::role(coordinator.role()), human::ago(coordinator.seen_ms));
    format!("{}, {role}, last heard of {seen}", coordinator.address)
}
