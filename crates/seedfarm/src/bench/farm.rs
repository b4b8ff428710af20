//! `bench farm`: what the farm costs a device that renders.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::plan::{JobSpec, PromptLine, Settings, plan};
use seedfarm_core::{JobTerms, ModelManifest, NoiseSource, Numerics, Recipe, SeedPolicy};
use seedfarm_engine::{DeviceSpec, Model, Pictures, Unobserved};
use seedfarm_proto::{convert, v1};
use seedfarm_runtime::secret;
use serde::Serialize;

use super::{Scratch, setup};
use crate::args::models::choose;
use crate::args::{DeviceArgs, ModelArgs, OwnerArgs};
use crate::client::{Farm, follow};
use crate::commands::submit;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local::LocalFarm;
use crate::output::Output;
use crate::table::facts;

/// The share of the bare engine's speed that a farm is to keep.
const GOAL: f64 = 0.98;
/// Images rendered before anything is measured, so that models are loaded and speeds are known.
const WARM_UP: u32 = 4;
/// The prompt of every image.
const PROMPT: &str = "cat face on a blue background";

/// Images a second through the farm, over images a second of the bare engine
///
/// Both render the same recipes on the same device, in turns. Ends with exit code 1 if the farm keeps less
/// than 0.98 of the engine's speed.
#[derive(Debug, Clone, Args)]
pub struct FarmArgs {
    /// Images of each round
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,

    /// Rounds; the medians are compared
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Folder or name of the model; may be left out where there is only one
    #[arg(long, value_name = "FOLDER|NAME")]
    pub model: Option<String>,

    /// strict or fast
    #[arg(long, value_name = "CLASS", default_value = "strict", value_parser = Numerics::from_name)]
    pub numerics: Numerics,

    /// Device: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceSpec,

    /// Threads that render on the processor; 0 is one for each core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// Most images in one batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub batch: u32,

    /// Folder of the programs postgres and initdb
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    device: String,
    model: String,
    images_a_round: u32,
    /// Images a second, a value for each round; so are the next.
    bare_rounds: Vec<f64>,
    farm_rounds: Vec<f64>,
    /// The median, in images a second; so is the next.
    bare: f64,
    farm: f64,
    ratio: f64,
    goal: f64,
    met: bool,
}

/// Measures.
///
/// # Errors
/// If the farm cannot be started, or does not render every image.
pub async fn run(args: FarmArgs, output: Output) -> Result<Exit> {
    let (models, wanted) = (args.models.clone(), args.model.clone());
    let local = tokio::task::spawn_blocking(move || choose(&models, wanted.as_deref())).await??;
    let model = Model::load(&local.folder, &args.device, args.numerics, args.threads)?;
    let scratch = Scratch::new()?;
    let setup = setup(&scratch, args.pg_bin.clone(), vec![local.manifest.clone()]);
    let devices = DeviceArgs {
        devices: vec![args.device],
        threads: args.threads,
        batch: Some(args.batch),
        previews: false,
    };
    let folders = ModelArgs { folders: vec![local.folder.clone()] };
    let farm = LocalFarm::start(setup, &folders, &devices, &OwnerArgs::default()).await?;
    let measured = rounds(&args, &local.manifest, model, &farm, output).await;
    farm.stop().await?;
    let measured = measured?;
    output.result(&measured, || text(&measured))?;
    Ok(if measured.met { Exit::Done } else { Exit::Failed })
}

async fn rounds(
    args: &FarmArgs,
    manifest: &ModelManifest,
    mut model: Model,
    local: &LocalFarm,
    output: Output,
) -> Result<Measured> {
    let farm = Farm::open(&local.coordinator.url, None, &local.coordinator.client_token).await?;
    let warm_up = spec(args, 0, WARM_UP);
    through_farm(&farm, manifest, &warm_up).await?;
    (model, _) = bare(model, recipes(manifest, &warm_up)?, args.batch).await?;
    let (mut bare_rounds, mut farm_rounds) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let spec = spec(args, u64::from(round) << 32, args.images);
        let alone;
        (model, alone) = bare(model, recipes(manifest, &spec)?, args.batch).await?;
        let farmed = through_farm(&farm, manifest, &spec).await?;
        output.note(&format!("round {round}: bare {alone:.3}, farm {farmed:.3} images/s"));
        bare_rounds.push(alone);
        farm_rounds.push(farmed);
    }
    let (bare, farm) = (median(&bare_rounds), median(&farm_rounds));
    let ratio = farm / bare;
    Ok(Measured {
        device: args.device.to_string(),
        model: manifest.name.clone(),
        images_a_round: args.images,
        bare_rounds,
        farm_rounds,
        bare,
        farm,
        ratio,
        goal: GOAL,
        met: ratio >= GOAL,
    })
}

fn spec(args: &FarmArgs, seed: u64, count: u32) -> JobSpec {
    let line = PromptLine { line: 1, prompt: PROMPT.to_owned(), seed: None, settings: Settings::default() };
    JobSpec {
        name: "bench".to_owned(),
        prompts: vec![line],
        count,
        seed,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: args.numerics,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    }
}

fn recipes(manifest: &ModelManifest, spec: &JobSpec) -> Result<Vec<Recipe>> {
    let plan = plan(spec, manifest)?;
    Ok((0..plan.total).filter_map(|index| plan.recipe(index)).collect())
}

/// Images a second of the engine in a loop, with nothing around it.
async fn bare(model: Model, recipes: Vec<Recipe>, batch: u32) -> Result<(Model, f64)> {
    let run = move || {
        let start = Instant::now();
        for together in recipes.chunks(batch as usize) {
            model.render(together, &Pictures::default(), &mut Unobserved)?;
        }
        let rate = recipes.len() as f64 / start.elapsed().as_secs_f64();
        Ok((model, rate))
    };
    tokio::task::spawn_blocking(run).await?
}

/// Images a second of a job, from its acknowledgement to its end as the farm records them.
async fn through_farm(farm: &Farm, manifest: &ModelManifest, spec: &JobSpec) -> Result<f64> {
    let key = format!("bench-{}", secret::random_hex(16)?);
    let request = convert::submission(spec.clone(), manifest.digest().to_string(), key);
    let job = submit::send(farm, request).await?.job.context("the coordinator's answer lacks the job")?;
    let request = v1::WatchJobRequest { job_id: job.id, previews: false };
    let job = follow::job(farm, &request, |_| ()).await?;
    if job.done != job.total {
        let message = format!("{} of {} images were rendered: the log says why", job.done, job.total);
        return Err(Failure::failed("INCOMPLETE", message).into());
    }
    let end = job.finished_at_ms.context("the finished job lacks the moment of its end")?;
    Ok(job.total as f64 * 1000.0 / (end - job.created_at_ms).max(1) as f64)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn text(measured: &Measured) -> String {
    let verdict = if measured.met { "met" } else { "NOT met" };
    facts(&[
        ("bare engine", format!("{:.3} images/s", measured.bare)),
        ("through farm", format!("{:.3} images/s", measured.farm)),
        ("ratio", format!("{:.3} (goal {:.2}: {verdict})", measured.ratio, measured.goal)),
    ])
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
