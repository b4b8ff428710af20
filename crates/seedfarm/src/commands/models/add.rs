//! `models add`: a model or an adapter that the farm hands out to its workers.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::Package;
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::{Farm, packages};
use crate::exit::Exit;
use crate::human;
use crate::local::package::{self, LocalPackage};
use crate::output::Output;
use crate::progress::Progress;

/// Bytes of one unit of progress.
const UNIT: u64 = 1_000_000;

/// Add a model, LoRA, embedding or ControlNet, which the farm then hands out to workers that lack it
///
/// It is checked here first: safetensors only, every header and every digest. What the farm has already is not
/// sent again, and an upload that was cut off goes on where it stopped. Nothing is visible before all files
/// are there. Workers fetch it that were started with --fetch-models, when jobs wait for it.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm models add models/my-model
  seedfarm models add dreamy-v3.safetensors --name dreamy --licence 'CreativeML Open RAIL-M'
  seedfarm models add felt.safetensors")]
pub struct AddArgs {
    /// A folder as diffusers writes it, or a .safetensors file
    #[arg(value_name = "FOLDER|FILE")]
    pub path: PathBuf,

    /// The name under which it is asked for; without it, its own
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// The model's licence; without it, what the file beside the model says
    #[arg(long, value_name = "TEXT")]
    pub licence: Option<String>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Adds.
///
/// # Errors
/// If it is no model, cannot be used, or the farm refuses it; nothing of it is visible then.
pub async fn run(args: AddArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let (path, name, licence) = (args.path.clone(), args.name.clone(), args.licence.clone());
    output.note(&format!("reading and digesting {}", path.display()));
    let prepared = tokio::task::spawn_blocking(move || package::read(&path, name, licence)).await?;
    let LocalPackage { package, root } =
        prepared.with_context(|| format!("{} cannot be added", args.path.display()))?;
    let missing = packages::missing(&farm, &package, &root).await?;
    let bytes: u64 = missing.iter().map(packages::Missing::bytes).sum();
    let mut progress = Progress::new(output, "sending (MB)", bytes.div_ceil(UNIT));
    let mut sent = 0;
    for file in &missing {
        let mut told = |more: u64| {
            sent += more;
            progress.set(sent.div_ceil(UNIT), &file.path().display().to_string());
        };
        packages::send(&farm, file, &mut told).await?;
    }
    packages::add(&farm, &package).await?;
    if bytes > 0 {
        progress.finish(bytes.div_ceil(UNIT), "all files are on the farm");
    }
    output.result(&document(&package, bytes), || text(&package, bytes))?;
    Ok(Exit::Done)
}

fn document(package: &Package, sent: u64) -> serde_json::Value {
    json!({
        "kind": package.manifest.kind(),
        "name": package.manifest.name(),
        "digest": package.digest(),
        "bytes": package.bytes(),
        "files": package.files.len(),
        "sent_bytes": sent,
    })
}

fn text(package: &Package, sent: u64) -> String {
    let (kind, name, digest) = (package.manifest.kind(), package.manifest.name(), package.digest());
    let (files, all, sent) = (package.files.len(), human::bytes(package.bytes()), human::bytes(sent));
    format!("{kind} {name} {digest}\n{files} files, {all}, of which {sent} were sent")
}
