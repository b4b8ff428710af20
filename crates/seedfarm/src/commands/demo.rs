//! `demo`: one image's whole life on this machine, twelve prompts wide.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_coordinator::WhenHeld;
use seedfarm_core::plan::{JobSpec, Settings};
use seedfarm_core::{JobTerms, NoiseSource, Numerics, SeedPolicy, prompt_file};
use seedfarm_proto::v1::create_replay_request::Original;
use seedfarm_proto::{convert, json, v1};
use seedfarm_runtime::{secret, shutdown};
use serde_json::json;

use crate::args::models::{LocalModel, choose};
use crate::args::{DataArgs, DatabaseArgs, DeviceArgs, ModelArgs, OwnerArgs, StorageArgs, TimingArgs};
use crate::client::download::Fetched;
use crate::client::{Farm, follow, replay};
use crate::commands::{fetch, submit, watch};
use crate::exit::Exit;
use crate::failure::{Failure, report};
use crate::local::LocalFarm;
use crate::local::coordinator::Setup;
use crate::output::Output;
use crate::setup;
use crate::sheet;
use crate::table::facts;
use crate::text;

/// The model that the demo renders with.
const MODEL: &str = "emoji-starter";
/// The prompt file in the model's folder.
const PROMPTS: &str = "prompts.jsonl";
/// The name of the demo's job.
const NAME: &str = "demo";
/// The demo's seed.
const SEED: u64 = 42;
/// Images for each prompt.
const COUNT: u32 = 2;

/// See it work: render a prompt file with the built-in model, then prove three pictures by replay
///
/// Starts a private PostgreSQL, a coordinator and a worker in this process, and stops them at the end.
/// Nothing outside its two folders is touched; DATABASE_URL is not used.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm demo
  seedfarm demo --setup                  install PostgreSQL first if it is missing
  seedfarm demo --json --dir /tmp/demo-data --out /tmp/demo-pictures")]
pub struct DemoArgs {
    /// Install PostgreSQL through apt if it is missing
    #[arg(long)]
    pub setup: bool,

    /// Folder of the database; without it, demo in the default data folder
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Folder for the pictures
    #[arg(long, value_name = "DIR", default_value = "seedfarm-demo")]
    pub out: PathBuf,

    /// Folder of the programs postgres and initdb
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// Said before the line that installs PostgreSQL by hand.
const WITHOUT_POSTGRESQL: &str = "the demo needs PostgreSQL: let it install that with --setup, or by hand";

/// What the demo made.
struct Made {
    job: v1::Job,
    fetched: Vec<Fetched>,
    sheet: PathBuf,
    replays: Vec<v1::Replay>,
}

/// Runs the demo.
///
/// # Errors
/// If PostgreSQL is missing, the model is not there, or anything on the way fails.
pub async fn run(args: DemoArgs, output: Output) -> Result<Exit> {
    let stop = shutdown::on_signals()?;
    let data_dir = data_dir(&args)?;
    if args.setup {
        let (data_dir, pg_bin) = (data_dir.clone(), args.pg_bin.clone());
        tokio::task::spawn_blocking(move || setup::install_postgresql(&data_dir, pg_bin.as_deref()))
            .await??;
    }
    let model = model(args.models.clone()).await?;
    output.note(&format!(
        "starting a private database in {}, a coordinator and a worker ...",
        data_dir.display()
    ));
    let farm = start(&args, &model, data_dir).await?;
    let made = tokio::select! {
        made = make(&farm, &model, &args.out, output) => made,
        () = stop.cancelled() => Err(Failure::failed("INTERRUPTED", "interrupted: start it again to render it anew").into()),
    };
    let (database, data_dir) = (farm.coordinator.database.clone(), farm.coordinator.data_dir.clone());
    let stopped = farm.stop().await;
    let made = made?;
    stopped?;
    let document = json!({
        "images": made.fetched.iter().map(fetch::document).collect::<Vec<_>>(),
        "contact_sheet": made.sheet.display().to_string(),
        "replays": made.replays.iter().map(text::replay::document).collect::<Vec<_>>(),
        "job": json::job(&made.job),
        "out": args.out.display().to_string(),
        "data_dir": data_dir.display().to_string(),
        "database": database,
    });
    output.result(&document, || summary(&made, &args, &data_dir, &database))?;
    Ok(exit(&made))
}

/// Beside the default data folder's own contents, so that a farm that runs there is left alone.
fn data_dir(args: &DemoArgs) -> Result<PathBuf> {
    match &args.dir {
        Some(dir) => Ok(std::path::absolute(dir)?),
        None => {
            let data_dir = std::env::var_os("SEEDFARM_DATA_DIR").map(PathBuf::from);
            Ok(DataArgs { data_dir }.resolve()?.join("demo"))
        }
    }
}

async fn model(models: ModelArgs) -> Result<LocalModel> {
    tokio::task::spawn_blocking(move || choose(&models, Some(MODEL))).await?
}

async fn start(args: &DemoArgs, model: &LocalModel, data_dir: PathBuf) -> Result<LocalFarm> {
    let database = DatabaseArgs { pg_bin: args.pg_bin.clone(), ..DatabaseArgs::default() };
    let setup = Setup {
        listen: "127.0.0.1:0".to_owned(),
        data_dir,
        storage: StorageArgs { database, ..StorageArgs::default() },
        manifests: vec![model.manifest.clone()],
        tls: None,
        plaintext: false,
        timing: TimingArgs::default(),
        advertise: None,
        when_held: WhenHeld::Fail,
    };
    let models = ModelArgs { folders: vec![model.folder.clone()] };
    let started = LocalFarm::start(setup, &models, &DeviceArgs::default(), &OwnerArgs::default()).await;
    match &started {
        Err(error) if report(error).code == "NO_POSTGRESQL" => started.context(WITHOUT_POSTGRESQL),
        _ => started,
    }
}

async fn make(local: &LocalFarm, model: &LocalModel, out: &Path, output: Output) -> Result<Made> {
    let farm = Farm::open(&local.coordinator.url, None, &local.coordinator.client_token).await?;
    cancel_leftovers(&farm).await?;
    let job = submit_prompts(&farm, model).await?;
    output.note(&format!("submitted {} with {} images", job.id, job.total));
    let job = watch::with_progress(&farm, &job.id, None, output).await?;
    let fetched = fetch::with_progress(&farm, &job, out, output).await?;
    let files: Vec<PathBuf> = fetch::present(&fetched).map(|one| one.path.clone()).collect();
    let sheet = out.join("contact-sheet.png");
    sheet::write(&files, &sheet)?;
    let replays = replay_some(&farm, &fetched, output).await?;
    Ok(Made { job, fetched, sheet, replays })
}

/// A demo that was interrupted leaves a job behind, for which this one need not wait.
async fn cancel_leftovers(farm: &Farm) -> Result<()> {
    let jobs = farm.jobs().list_jobs(v1::ListJobsRequest::default()).await?.into_inner().jobs;
    for job in jobs.into_iter().filter(|job| job.name == NAME && !text::job::is_final(job)) {
        farm.jobs().cancel_job(v1::CancelJobRequest { job_id: job.id }).await?;
    }
    Ok(())
}

async fn submit_prompts(farm: &Farm, model: &LocalModel) -> Result<v1::Job> {
    let file = model.folder.join(PROMPTS);
    let bytes =
        std::fs::read(&file).with_context(|| format!("cannot read the prompt file {}", file.display()))?;
    let spec = JobSpec {
        name: NAME.to_owned(),
        prompts: prompt_file::parse(&bytes).with_context(|| format!("{} is refused", file.display()))?,
        count: COUNT,
        seed: SEED,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: Numerics::Strict,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    };
    let key = format!("demo-{}", secret::random_hex(16)?);
    let request = convert::submission(spec, model.manifest.digest().to_string(), key);
    submit::send(farm, request).await?.job.context("the coordinator's answer lacks the job")
}

/// Renders the first, the middle and the last image again.
async fn replay_some(farm: &Farm, fetched: &[Fetched], output: Output) -> Result<Vec<v1::Replay>> {
    let mut replays = Vec::new();
    for index in [0, fetched.len() / 2, fetched.len().saturating_sub(1)] {
        let Some(original) = fetched.get(index) else { continue };
        let started = replay::create(farm, Original::ImageId(original.image.id.clone())).await?;
        let replay = follow::replay(farm, &started.id).await?;
        let verdict = replay.outcome.as_ref().map(text::replay::line).unwrap_or_default();
        output.note(&format!("replayed {}: {verdict}", original.path.display()));
        replays.push(replay);
    }
    Ok(replays)
}

fn proven(replays: &[v1::Replay]) -> usize {
    replays.iter().filter(|replay| text::replay::verdict(replay) == Some("exact")).count()
}

fn exit(made: &Made) -> Exit {
    let complete =
        made.job.done == made.job.total && fetch::present(&made.fetched).count() == made.fetched.len();
    if complete && proven(&made.replays) == made.replays.len() { Exit::Done } else { Exit::Failed }
}

fn summary(made: &Made, args: &DemoArgs, data_dir: &Path, database: &str) -> String {
    let absolute =
        |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let one = made.fetched.first().map(|one| one.path.display().to_string()).unwrap_or_default();
    let program = std::env::args_os().next().unwrap_or_else(|| "seedfarm".into());
    let (program, data) = (program.to_string_lossy(), data_dir.display());
    let known = facts(&[
        ("pictures", format!("{} in {}", made.fetched.len(), absolute(&args.out))),
        ("contact sheet", absolute(&made.sheet)),
        ("replays", format!("{} of {} exact", proven(&made.replays), made.replays.len())),
        ("database", database.to_owned()),
        ("job", made.job.id.clone()),
    ]);
    format!(
        "{known}\n\nNext:\n  \
         {program} inspect {one}\n  \
         {program} render --prompt 'tiger face on a green background' --seed 7 --out tiger.png\n  \
         {program} up --data-dir {data}     and, in another terminal:\n  \
         {program} replay {one} --data-dir {data}"
    )
}
