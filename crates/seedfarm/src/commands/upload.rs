//! `upload`: pictures that jobs start from or follow.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::args::ClientArgs;
use crate::client::{Farm, upload};
use crate::exit::Exit;
use crate::output::Output;
use crate::pictures;

/// Upload pictures that jobs start from or follow, and print their digests
///
/// PNG files with 8 bits a channel are uploaded as they are. Other PNG files, JPEG and WebP become such
/// files first: turned by their EXIF orientation, laid over white where they are transparent. The same
/// picture again is stored once.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
'seedfarm submit' takes paths as well, uploads them itself and brings them to the size of the image.

Examples:
  seedfarm upload cat.png
  seedfarm submit --prompt 'a tiger' --source \"$(seedfarm upload cat.png)\" --width 512 --height 512")]
pub struct UploadArgs {
    /// Picture files
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Uploads.
///
/// # Errors
/// If a file is no picture, or the farm refuses it; files before it are uploaded then.
pub async fn run(args: UploadArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let mut documents = Vec::new();
    for file in &args.files {
        documents.push(one(&farm, file, output).await?);
    }
    output.result(&json!({ "pictures": documents }), || digests(&documents))?;
    Ok(Exit::Done)
}

async fn one(farm: &Farm, file: &Path, output: Output) -> Result<Value> {
    let cannot = || format!("the picture {} cannot be uploaded", file.display());
    let prepared = pictures::read(file)?.prepare().with_context(cannot)?;
    let stored = upload::put(farm, &prepared.png).await.with_context(cannot)?;
    let known = if stored.known { ", known already" } else { "" };
    let changes = prepared.note.as_ref().map_or_else(String::new, |note| format!(", {note}"));
    output.note(&format!("{}: {}x{}{known}{changes}", file.display(), stored.width, stored.height));
    Ok(json!({
        "file": file.display().to_string(),
        "digest": stored.digest,
        "width": stored.width,
        "height": stored.height,
        "known": stored.known,
        "changes": prepared.note,
    }))
}

fn digests(documents: &[Value]) -> String {
    let digest = |document: &Value| document["digest"].as_str().unwrap_or_default().to_owned();
    documents.iter().map(digest).collect::<Vec<_>>().join("\n")
}
