//! `bench engine`: the engine alone, a stage at a time.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::plan::{JobSpec, PromptLine, Settings, plan};
use seedfarm_core::{JobTerms, ModelManifest, NoiseSource, Numerics, Recipe, Sampler, SeedPolicy};
use seedfarm_engine::{DeviceSpec, Model, Pictures, Unobserved};
use serde::Serialize;

use crate::args::ModelArgs;
use crate::args::models::choose;
use crate::exit::Exit;
use crate::output::Output;
use crate::table::facts;

/// Seconds of text encoder, UNet, decoder and a whole image
///
/// The UNet is timed on a guided pair, the decoder on one image; each figure is the least of some calls.
/// tests/speed/compare.py holds them against PyTorch and diffusers.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Folder or name of the model; may be left out where there is only one
    #[arg(long, value_name = "FOLDER|NAME")]
    pub model: Option<String>,

    /// Width and height in pixels; the model's own without it
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<u32>,

    /// Steps of the whole image
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub steps: u32,

    /// Calls of each stage
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub calls: u32,

    /// Render a whole image too
    #[arg(long)]
    pub image: bool,

    /// What to draw
    #[arg(long, value_name = "TEXT", default_value = "cat face on a blue background")]
    pub prompt: String,

    /// strict or fast
    #[arg(long, value_name = "CLASS", default_value = "strict", value_parser = Numerics::from_name)]
    pub numerics: Numerics,

    /// Device: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceSpec,

    /// Threads that render on the processor; 0 is one for each core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    model: String,
    device: String,
    width: u32,
    height: u32,
    seconds: Seconds,
    /// The highest resident set so far, in bytes, model loading included.
    peak_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Seconds {
    #[serde(rename = "text encoder")]
    text_encoder: f64,
    #[serde(rename = "UNet call")]
    unet: f64,
    decoder: f64,
    #[serde(rename = "whole image", skip_serializing_if = "Option::is_none")]
    image: Option<f64>,
}

/// Measures.
///
/// # Errors
/// If the model cannot be loaded or does not take the size.
pub async fn run(args: EngineArgs, output: Output) -> Result<Exit> {
    let measured = tokio::task::spawn_blocking(move || measure(&args)).await??;
    output.result(&measured, || text(&measured))?;
    Ok(Exit::Done)
}

fn measure(args: &EngineArgs) -> Result<Measured> {
    let local = choose(&args.models, args.model.as_deref())?;
    let recipe = recipe(args, &local.manifest)?;
    let model = Model::load(&local.folder, &args.device, args.numerics, args.threads)?;
    let stages = model.time_stages(&recipe, args.calls as usize)?;
    let image = if args.image { Some(whole(&model, &recipe)?) } else { None };
    Ok(Measured {
        model: local.manifest.name,
        device: args.device.to_string(),
        width: recipe.template.width,
        height: recipe.template.height,
        seconds: Seconds {
            text_encoder: stages.text_encoder,
            unet: stages.unet,
            decoder: stages.decoder,
            image,
        },
        peak_bytes: peak_bytes()?,
    })
}

/// One guided image by DDIM.
fn recipe(args: &EngineArgs, manifest: &ModelManifest) -> Result<Recipe> {
    let settings = Settings {
        width: args.size,
        height: args.size,
        steps: Some(args.steps),
        sampler: Some(Sampler::Ddim),
        guidance: Some(7.5),
        ..Settings::default()
    };
    let line = PromptLine { line: 1, prompt: args.prompt.clone(), seed: None, settings: Settings::default() };
    let spec = JobSpec {
        name: "bench".to_owned(),
        prompts: vec![line],
        count: 1,
        seed: 1,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: args.numerics,
        noise: NoiseSource::Philox,
        settings,
    };
    plan(&spec, manifest)?.recipe(0).context("a plan of one image has a first one")
}

fn whole(model: &Model, recipe: &Recipe) -> Result<f64> {
    let start = Instant::now();
    model.render(std::slice::from_ref(recipe), &Pictures::default(), &mut Unobserved)?;
    Ok(start.elapsed().as_secs_f64())
}

/// The highest resident set of this process so far, as Linux counts it.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(1024 * kibibytes.context("/proc/self/status has no VmHWM")?)
}

fn text(measured: &Measured) -> String {
    let seconds = &measured.seconds;
    let mut rows = vec![
        ("text encoder", format!("{:.4} s", seconds.text_encoder)),
        ("UNet call", format!("{:.4} s", seconds.unet)),
        ("decoder", format!("{:.4} s", seconds.decoder)),
    ];
    if let Some(image) = seconds.image {
        rows.push(("whole image", format!("{image:.3} s")));
    }
    rows.push(("peak memory", format!("{:.2} GiB", measured.peak_bytes as f64 / f64::from(1 << 30))));
    facts(&rows)
}
