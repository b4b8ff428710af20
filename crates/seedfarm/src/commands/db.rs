//! `db`: the database itself.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand};
use seedfarm_store::private::Durability;
use seedfarm_store::{Audit, Census, Database, DatabaseConfig, open_database};
use serde_json::json;

use crate::args::{DataArgs, DatabaseArgs};
use crate::exit::Exit;
use crate::output::Output;

/// Look after the database
#[derive(Debug, Clone, Args)]
pub struct DbArgs {
    #[command(subcommand)]
    pub action: DbAction,
}

/// What to do with it.
#[derive(Debug, Clone, Subcommand)]
pub enum DbAction {
    Check(CheckArgs),
}

/// Hold what is stored against its invariants: every image in exactly one place, every counter right
///
/// A private database must not be in use meanwhile: stop its coordinator first. Ends with exit code 1 if
/// anything is wrong.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub data: DataArgs,

    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Checks.
///
/// # Errors
/// If the database cannot be opened or read.
pub async fn run(args: DbArgs, output: Output) -> Result<Exit> {
    let DbAction::Check(args) = args.action;
    let Database { store, cluster, description } = open_database(DatabaseConfig {
        url: args.database.database_url,
        data_dir: args.data.resolve()?,
        pg_bin: args.database.pg_bin,
        durability: Durability::Full,
        max_connections: 4,
    })
    .await?;
    let checked = seedfarm_store::audit(&store).await;
    store.close().await;
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    report(&description, &checked?, output)
}

fn report(description: &str, Audit { census, findings }: &Audit, output: Output) -> Result<Exit> {
    let sound = findings.is_empty();
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let document = json!({
        "database": description,
        "sound": sound,
        "checked": counts(census).into_iter().collect::<BTreeMap<_, _>>(),
        "findings": findings,
    });
    output.result(&document, || {
        let verdict =
            if sound { format!("{description}: every invariant holds") } else { findings.join("\n") };
        format!(
            "{verdict}\nchecked {}",
            counts(census).map(|(what, count)| format!("{count} {what}")).join(", ")
        )
    })?;
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

/// What was looked at, and how many of each.
fn counts(census: &Census) -> [(&'static str, u64); 6] {
    [
        ("jobs", census.jobs),
        ("results", census.results),
        ("dead", census.dead),
        ("ranges", census.ranges),
        ("leases", census.leases),
        ("workers", census.workers),
    ]
}
