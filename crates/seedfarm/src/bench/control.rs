//! `bench control`: the coordinator alone, with workers that render nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::plan::{JobSpec, PromptLine, Settings};
use seedfarm_core::{
    ArtifactDigest, ModelManifest, NoiseSource, Numerics, SeedPolicy, WorkerId, canonical, limits,
};
use seedfarm_engine::DeviceSpec;
use seedfarm_picture::Picture;
use seedfarm_proto::{convert, v1};
use seedfarm_runtime::secret;
use serde::Serialize;
use tokio::task::JoinSet;

use super::cpu::Used;
use super::session::{self, Counted, Terms};
use super::{Scratch, setup};
use crate::args::models::choose;
use crate::args::{ModelArgs, TimingArgs};
use crate::client::Farm;
use crate::commands::submit;
use crate::exit::Exit;
use crate::local::coordinator::LocalCoordinator;
use crate::output::Output;
use crate::table::Table;

/// How long leases may grow to their size before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);

/// Durable lease-complete cycles a second of the coordinator, with workers that render nothing
///
/// The workers are real sessions over real streams, in this process; the database is a private PostgreSQL
/// that flushes every commit. A cycle is one lease granted, completed and settled.
#[derive(Debug, Clone, Args)]
pub struct ControlArgs {
    /// Images of a lease; several are measured one after another
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,16,64")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub lease: Vec<u32>,

    /// Workers that are connected
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sessions: u32,

    /// Leases that each worker asks for at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub credits: u32,

    /// Seconds that are measured, for each size of lease
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// Folder of the programs postgres and initdb
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What was measured for one size of lease.
#[derive(Debug, Serialize)]
struct Measured {
    images_a_lease: f64,
    cycles_per_second: f64,
    images_per_second: f64,
    /// From a completion's sending to its settling.
    settle_p50_ms: f64,
    settle_p99_ms: f64,
    /// From a credit's sending to the next grant.
    grant_p50_ms: f64,
    grant_p99_ms: f64,
    /// Processor time of this process (coordinator and workers) for each cycle.
    process_cpu_us: f64,
    /// Processor time of the database for each cycle.
    database_cpu_us: f64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    sessions: u32,
    credits: u32,
    seconds: u64,
    database: String,
    runs: Vec<Measured>,
}

/// Measures.
///
/// # Errors
/// If the coordinator cannot be started, or refuses a completion.
pub async fn run(args: ControlArgs, output: Output) -> Result<Exit> {
    let models = args.models.clone();
    let local = tokio::task::spawn_blocking(move || choose(&models, None)).await??;
    let mut runs = Vec::new();
    let mut database = String::new();
    for &lease in &args.lease {
        let scratch = Scratch::new()?;
        let setup = setup(&scratch, args.pg_bin.clone(), vec![local.manifest.clone()]);
        let coordinator = LocalCoordinator::start(setup).await?;
        database.clone_from(&coordinator.database);
        let measured = measure(&args, lease, &local.manifest, &coordinator).await;
        coordinator.stop().await?;
        let measured = measured?;
        output.note(&format!("{lease} images a lease: {:.0} cycles/s", measured.cycles_per_second));
        runs.push(measured);
    }
    let ControlArgs { sessions, credits, seconds, .. } = args;
    let document = Document { sessions, credits, seconds, database, runs };
    output.result(&document, || text(&document))?;
    Ok(Exit::Done)
}

async fn measure(
    args: &ControlArgs,
    lease: u32,
    manifest: &ModelManifest,
    coordinator: &LocalCoordinator,
) -> Result<Measured> {
    let terms = terms(args, lease, manifest, coordinator).await?;
    let farm = Farm::open(&coordinator.url, None, &coordinator.client_token).await?;
    submit::send(&farm, submission(manifest)?).await?;
    let mut sessions = JoinSet::new();
    for _ in 0..args.sessions {
        let id = u128::from_str_radix(&secret::random_hex(16)?, 16)?;
        sessions.spawn(session::run(terms.clone(), WorkerId::from_uuid(uuid::Uuid::from_u128(id))));
    }
    wait(&mut sessions, WARM_UP).await?;
    let before = Used::now(coordinator.server_pid());
    let start = Instant::now();
    terms.counting.store(true, Ordering::Relaxed);
    wait(&mut sessions, Duration::from_secs(args.seconds)).await?;
    terms.counting.store(false, Ordering::Relaxed);
    let elapsed = start.elapsed().as_secs_f64();
    let used = Used::now(coordinator.server_pid()).since(before);
    terms.over.store(true, Ordering::Relaxed);
    let mut counted = Counted::default();
    while let Some(session) = sessions.join_next().await {
        let session = session.context("a session panicked")??;
        counted.leases += session.leases;
        counted.images += session.images;
        counted.settle.extend(session.settle);
        counted.grant.extend(session.grant);
    }
    Ok(summed(counted, elapsed, used))
}

/// Waits, unless a session ends meanwhile.
async fn wait(sessions: &mut JoinSet<Result<Counted>>, duration: Duration) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        Some(ended) = sessions.join_next() => {
            ended.context("a session panicked")??;
            anyhow::bail!("a session was closed by the coordinator")
        }
    }
}

fn summed(mut counted: Counted, elapsed: f64, used: Used) -> Measured {
    let leases = counted.leases.max(1) as f64;
    Measured {
        images_a_lease: counted.images as f64 / leases,
        cycles_per_second: counted.leases as f64 / elapsed,
        images_per_second: counted.images as f64 / elapsed,
        settle_p50_ms: counted.settle.quantile_ms(0.5),
        settle_p99_ms: counted.settle.quantile_ms(0.99),
        grant_p50_ms: counted.grant.quantile_ms(0.5),
        grant_p99_ms: counted.grant.quantile_ms(0.99),
        process_cpu_us: used.process.as_secs_f64() * 1e6 / leases,
        database_cpu_us: used.database.as_secs_f64() * 1e6 / leases,
    }
}

/// What the sessions share, with the one picture file stored.
async fn terms(
    args: &ControlArgs,
    lease: u32,
    manifest: &ModelManifest,
    coordinator: &LocalCoordinator,
) -> Result<Terms> {
    let fingerprint = seedfarm_engine::fingerprint(&DeviceSpec::Cpu, Numerics::Strict);
    let file = seedfarm_picture::encode_plain(&Picture::new(8, 8, vec![0; 8 * 8 * 3])?)?;
    let digest = ArtifactDigest::of_bytes(&file).to_string();
    // The coordinator makes leases so long that they take their time, by what workers say an image takes.
    let target_ms = TimingArgs::default().target_lease.as_secs() * 1000;
    let image = v1::RenderedImage {
        artifact_digest: digest.clone(),
        artifact_bytes: file.len() as u64,
        duration_ms: target_ms / u64::from(lease),
        ..v1::RenderedImage::default()
    };
    let chunk = v1::Chunk { data: file };
    let upload = v1::PutArtifactRequest { artifact_digest: digest, chunk: Some(chunk) };
    let mut client = session::connect(&coordinator.url, &coordinator.worker_token).await?;
    client.put_artifact(tokio_stream::once(upload)).await?;
    Ok(Terms {
        url: coordinator.url.clone(),
        token: coordinator.worker_token.clone(),
        manifest: manifest.clone(),
        fingerprint: canonical::to_string(&fingerprint),
        file: image,
        credits: args.credits,
        counting: Arc::new(AtomicBool::new(false)),
        over: Arc::new(AtomicBool::new(false)),
    })
}

/// The largest job that there may be, so that it does not end while it is measured.
fn submission(manifest: &ModelManifest) -> Result<v1::SubmitJobRequest> {
    let line =
        PromptLine { line: 1, prompt: "nothing".to_owned(), seed: None, settings: Settings::default() };
    let spec = JobSpec {
        name: "bench".to_owned(),
        prompts: vec![line],
        count: u32::try_from(limits::MAX_IMAGES_A_JOB)?,
        seed: 0,
        seed_policy: SeedPolicy::Sequential,
        priority: 0,
        numerics: Numerics::Strict,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    };
    let key = format!("bench-{}", secret::random_hex(16)?);
    Ok(convert::submission(spec, manifest.digest().to_string(), key))
}

fn text(document: &Document) -> String {
    let mut table = Table::new([
        "IMAGES/LEASE",
        "CYCLES/S",
        "IMAGES/S",
        "SETTLE P50 MS",
        "P99",
        "GRANT P50 MS",
        "P99",
        "CPU US",
        "DB CPU US",
    ]);
    for run in &document.runs {
        table.row([
            format!("{:.1}", run.images_a_lease),
            format!("{:.0}", run.cycles_per_second),
            format!("{:.0}", run.images_per_second),
            format!("{:.1}", run.settle_p50_ms),
            format!("{:.1}", run.settle_p99_ms),
            format!("{:.1}", run.grant_p50_ms),
            format!("{:.1}", run.grant_p99_ms),
            format!("{:.0}", run.process_cpu_us),
            format!("{:.0}", run.database_cpu_us),
        ]);
    }
    let Document { sessions, credits, database, .. } = document;
    format!("{}\n{sessions} workers with {credits} credits each; {database}", table.render())
}
