//! `inspect`: what a picture file says of itself, and whether it is so.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_picture::{Check, Metadata};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::output::Output;
use crate::table::facts;

/// Show how a picture was made, and check what its file claims
///
/// Needs no farm. Files of other tools are read too: their 'parameters' text is shown. Ends with exit code 1
/// if a digest in the file is not that of what it holds.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A PNG file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Inspects.
///
/// # Errors
/// If the file cannot be read or is no whole PNG.
pub fn run(args: InspectArgs, output: Output) -> Result<Exit> {
    let shown = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {shown}"))?;
    let metadata =
        seedfarm_picture::read_metadata(&bytes).with_context(|| format!("{shown} cannot be read"))?;
    let whole = |check: &Check| !matches!(check, Check::Differs { .. });
    let honest = whole(&metadata.pixels) && whole(&metadata.recipe_check);
    output.result(&document(&metadata, &shown.to_string(), honest), || text(&metadata))?;
    Ok(if honest { Exit::Done } else { Exit::Failed })
}

fn document(metadata: &Metadata, path: &str, honest: bool) -> Value {
    let refusal = metadata.recipe.as_ref().and_then(|recipe| recipe.as_ref().err());
    let recipe = metadata.recipe_json.as_deref();
    json!({
        "path": path,
        "width": metadata.width,
        "height": metadata.height,
        "unaltered": honest,
        "pixel_digest": metadata.pixel_digest,
        "pixels": word(&metadata.pixels),
        "recipe": seedfarm_proto::json::embedded(recipe),
        "recipe_digest": metadata.recipe_digest,
        "recipe_check": word(&metadata.recipe_check),
        "recipe_refused": refusal.map(ToString::to_string),
        "fingerprint": metadata.fingerprint,
        "model": metadata.model,
        "parameters": metadata.parameters,
        "other": metadata.other,
    })
}

const fn word(check: &Check) -> &'static str {
    match check {
        Check::Absent => "absent",
        Check::Matches => "matches",
        Check::Differs { .. } => "differs",
        Check::Unknown => "unknown",
    }
}

fn said(check: &Check) -> String {
    match check {
        Check::Absent => "the file claims none".to_owned(),
        Check::Matches => "as the file claims".to_owned(),
        Check::Differs { claimed } => format!("NOT the {claimed} that the file claims: it was altered"),
        Check::Unknown => "cannot be compared".to_owned(),
    }
}

fn text(metadata: &Metadata) -> String {
    let digest = |digest: Option<String>, check: &Check| {
        format!("{} ({})", digest.unwrap_or_else(|| "none".to_owned()), said(check))
    };
    let mut lines = vec![
        ("size", format!("{} x {}", metadata.width, metadata.height)),
        ("pixels", digest(metadata.pixel_digest.map(|digest| digest.to_string()), &metadata.pixels)),
    ];
    if metadata.recipe_json.is_some() {
        let recipe = metadata.recipe_digest.map(|digest| digest.to_string());
        lines.push(("recipe", digest(recipe, &metadata.recipe_check)));
    }
    lines.extend(recipe_facts(metadata));
    lines.extend(metadata.model.clone().map(|model| ("model", model)));
    if let Some(fingerprint) = &metadata.fingerprint {
        let place = format!("{}, {}", fingerprint.architecture, fingerprint.device_name);
        lines.push(("rendered on", place));
        lines.push(("numeric class", fingerprint.numeric_class().to_string()));
    }
    let mut text = facts(&lines);
    if let Some(parameters) = &metadata.parameters {
        text += &format!("\n\nparameters:\n{parameters}");
    }
    if !metadata.other.is_empty() {
        let names: Vec<&str> = metadata.other.keys().map(String::as_str).collect();
        text += &format!("\n\nother texts: {}", names.join(", "));
    }
    text
}

fn recipe_facts(metadata: &Metadata) -> Vec<(&'static str, String)> {
    let recipe = match &metadata.recipe {
        Some(Ok(recipe)) => recipe,
        Some(Err(refusal)) => return vec![("not readable", refusal.to_string())],
        None => return Vec::new(),
    };
    let template = &recipe.template;
    let mut lines = vec![("prompt", template.prompt.clone())];
    if !template.negative_prompt.is_empty() {
        lines.push(("negative", template.negative_prompt.clone()));
    }
    let sampling = format!(
        "{} steps of {}, guidance {}, {} numerics, {} noise",
        template.steps(),
        template.sampler.as_str(),
        template.guidance,
        template.numerics.as_str(),
        template.noise.as_str()
    );
    lines.extend([("seed", recipe.seed.to_string()), ("sampling", sampling)]);
    lines
}
