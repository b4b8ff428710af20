//! `models verify`: whether models are what their digests say, on this machine or on the farm.

use anyhow::Result;
use clap::Args;
use seedfarm_core::Numerics;
use seedfarm_engine::{DeviceSpec, Model};
use seedfarm_proto::v1::{self, FileState};
use serde_json::{Value, json};

use crate::args::models::{LocalModel, choose};
use crate::args::{ClientArgs, ModelArgs};
use crate::client::Farm;
use crate::exit::Exit;
use crate::human;
use crate::output::{Output, to_stderr};
use crate::table::Table;
use crate::text::model::local_table;

/// Digest every file of models again, on this machine or on the farm, and hold it against its digest
///
/// Without --farm, those on this machine: every file is digested and held against the manifest, and the
/// weights are loaded. With it, the files that the farm hands out, where they are stored; a damaged one is
/// removed, and adding the model again mends it.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm models verify
  seedfarm models verify emoji-starter
  seedfarm models verify --farm")]
pub struct VerifyArgs {
    /// A model's name, digest, folder or file; without it, all
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,

    /// Verify what the farm has stored
    #[arg(long)]
    pub farm: bool,

    #[command(flatten)]
    pub models: ModelArgs,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Verifies.
///
/// # Errors
/// If there is no such model, or the coordinator does not answer.
pub async fn run(args: VerifyArgs, output: Output) -> Result<Exit> {
    if args.farm {
        return stored(&args, output).await;
    }
    tokio::task::spawn_blocking(move || local(&args, output)).await?
}

async fn stored(args: &VerifyArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let request = v1::VerifyPackageRequest { package: args.model.clone().unwrap_or_default() };
    let mut stream = farm.models().verify_package(request).await?.into_inner();
    let mut files = Vec::new();
    while let Some(file) = stream.message().await? {
        if file.state() != FileState::Sound {
            to_stderr(&format!("error: {}: {} {}", file.package, file.path, trouble(&file)));
        }
        files.push(file);
    }
    let whole = files.iter().all(|file| file.state() == FileState::Sound);
    let documents: Vec<Value> = files.iter().map(file_document).collect();
    output.result(&json!({ "whole": whole, "files": documents }), || files_table(&files))?;
    if whole {
        output.note(&format!(
            "{} files were read, and each has the digest under which it is stored",
            files.len()
        ));
    }
    Ok(if whole { Exit::Done } else { Exit::Failed })
}

fn trouble(file: &v1::VerifyPackageResponse) -> String {
    let mend = "add the model again with 'seedfarm models add'";
    match file.state() {
        FileState::Damaged => {
            format!("is damaged, has the SHA-256 {} and was removed: {mend}", file.actual_sha256)
        }
        _ => format!("is missing: {mend}"),
    }
}

const fn state(state: FileState) -> &'static str {
    match state {
        FileState::Sound => "sound",
        FileState::Damaged => "damaged",
        FileState::Missing => "missing",
        FileState::Unspecified => "unspecified",
    }
}

fn file_document(file: &v1::VerifyPackageResponse) -> Value {
    let stored = file.file.clone().unwrap_or_default();
    json!({
        "package": file.package,
        "path": file.path,
        "sha256": stored.sha256,
        "bytes": stored.bytes,
        "state": state(file.state()),
        "actual_sha256": Some(&file.actual_sha256).filter(|actual| !actual.is_empty()),
    })
}

fn files_table(files: &[v1::VerifyPackageResponse]) -> String {
    let mut table = Table::new(["MODEL", "STATE", "SIZE", "FILE"]);
    for file in files {
        let bytes = file.file.as_ref().map_or(0, |file| file.bytes);
        table.row([
            file.package.clone(),
            state(file.state()).to_owned(),
            human::bytes(bytes),
            file.path.clone(),
        ]);
    }
    table.render()
}

fn chosen(args: &VerifyArgs) -> Result<Vec<LocalModel>> {
    match &args.model {
        Some(wanted) => Ok(vec![choose(&args.models, Some(wanted))?]),
        None => args.models.load(),
    }
}

fn local(args: &VerifyArgs, output: Output) -> Result<Exit> {
    let models = chosen(args)?;
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
