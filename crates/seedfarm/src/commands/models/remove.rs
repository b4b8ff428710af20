//! `models remove`: the farm hands a model out no longer.

use anyhow::Result;
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::human;
use crate::output::Output;

/// Withdraw a model or an adapter: the farm hands it out no longer
///
/// Its files leave the farm's storage, unless another model has them too. Recipes and results stay for ever,
/// workers keep the copies that they have, and adding it again brings it back.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm models remove dreamy-v3")]
pub struct RemoveArgs {
    /// Its name or digest
    #[arg(value_name = "MODEL")]
    pub model: String,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Removes.
///
/// # Errors
/// If the farm hands out nothing of this name, or several.
pub async fn run(args: RemoveArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let request = v1::RemovePackageRequest { package: args.model };
    let answer = farm.models().remove_package(request).await?.into_inner();
    let package = answer.package.unwrap_or_default();
    let document = json!({ "package": json::package(&package), "freed_bytes": answer.freed_bytes });
    output.result(&document, || {
        let freed = human::bytes(answer.freed_bytes);
        format!("{} {} is handed out no longer; {freed} are free", package.kind, package.name)
    })?;
    Ok(Exit::Done)
}
