//! `bench control`: the coordinator alone, with workers that render nothing.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::{ModelManifest, limits};
use serde::Serialize;
use tokio::task::JoinSet;

use super::cpu::Used;
use super::process::Coordinator;
use super::session::{Counted, Terms};
use super::workload;
use crate::args::ModelArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::table::Table;

/// How long leases may grow to their size before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// Parts of a run whose rates are told apart.
const PARTS: u32 = 10;
/// Images a second to reach, by images of a lease.
const GOALS: [(u32, f64); 3] = [(1, 8_000.0), (16, 25_000.0), (64, 50_000.0)];
/// Images a second that a job must have in store for each second of a run.
const MOST_A_SECOND: u64 = 100_000;

/// Durable lease-complete cycles a second of the coordinator, with workers that render nothing
///
/// The workers are real sessions over real streams, in this process; the coordinator is a process of its own
/// with a private PostgreSQL that flushes every commit. A cycle is one lease granted, completed and settled.
/// Ends with exit code 1 where a goal is missed: 8,000 images a second at one image a lease, 25,000 at 16,
/// 50,000 at 64.
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
    /// Images a second in each tenth of the run.
    parts: Vec<f64>,
    /// Images stored at the end.
    images: u64,
    /// From a completion's sending to its settling.
    settle_p50_ms: f64,
    settle_p99_ms: f64,
    /// From a credit's sending to the next grant.
    grant_p50_ms: f64,
    grant_p99_ms: f64,
    /// Processor time for each cycle: the coordinator's, its database's, and that of this process.
    coordinator_cpu_us: f64,
    database_cpu_us: f64,
    workers_cpu_us: f64,
    /// Images a second to reach, where there is a goal for this size.
    goal: Option<f64>,
    met: Option<bool>,
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
    let manifest = workload::manifest(&args.models).await?;
    let mut runs = Vec::new();
    let mut database = String::new();
    for &lease in &args.lease {
        let coordinator = Coordinator::start(args.pg_bin.as_ref()).await?;
        database.clone_from(&coordinator.database);
        let measured = measure(&args, lease, &manifest, &coordinator).await;
        coordinator.stop().await?;
        let measured = measured?;
        output.note(&format!("{lease} images a lease: {:.0} images/s", measured.images_per_second));
        runs.push(measured);
    }
    let ControlArgs { sessions, credits, seconds, .. } = args;
    let document = Document { sessions, credits, seconds, database, runs };
    output.result(&document, || text(&document))?;
    let missed = document.runs.iter().any(|run| run.met == Some(false));
    Ok(if missed { Exit::Failed } else { Exit::Done })
}

async fn measure(
    args: &ControlArgs,
    lease: u32,
    manifest: &ModelManifest,
    coordinator: &Coordinator,
) -> Result<Measured> {
    let terms = workload::terms(coordinator, manifest, lease, args.credits).await?;
    let farm = Farm::open(&coordinator.url, None, &coordinator.client_token).await?;
    for _ in 0..(args.seconds * MOST_A_SECOND).div_ceil(limits::MAX_IMAGES_A_JOB) {
        workload::submit(&farm, manifest, limits::MAX_IMAGES_A_JOB).await?;
    }
    let mut sessions = workload::start(&terms, args.sessions)?;
    workload::wait(&mut sessions, WARM_UP).await?;
    let before = Used::now(coordinator.pid());
    let start = Instant::now();
    terms.counting.store(true, Ordering::Relaxed);
    let parts = parts(&terms, &mut sessions, Duration::from_secs(args.seconds) / PARTS).await?;
    terms.counting.store(false, Ordering::Relaxed);
    let elapsed = start.elapsed().as_secs_f64();
    let used = Used::now(coordinator.pid()).since(before);
    terms.over.store(true, Ordering::Relaxed);
    let mut counted = Counted::default();
    while let Some(session) = sessions.join_next().await {
        counted.add(session.context("a session panicked")??);
    }
    let goal = GOALS.into_iter().find(|(size, _)| *size == lease).map(|(_, goal)| goal);
    Ok(summed(counted, elapsed, used, parts, goal))
}

/// Waits for all parts of a run; images a second in each.
async fn parts(
    terms: &Terms,
    sessions: &mut JoinSet<Result<Counted>>,
    duration: Duration,
) -> Result<Vec<f64>> {
    let mut parts = Vec::new();
    for _ in 0..PARTS {
        let (start, before) = (Instant::now(), terms.images.load(Ordering::Relaxed));
        workload::wait(sessions, duration).await?;
        let images = terms.images.load(Ordering::Relaxed) - before;
        parts.push(images as f64 / start.elapsed().as_secs_f64());
    }
    Ok(parts)
}

fn summed(mut counted: Counted, elapsed: f64, used: Used, parts: Vec<f64>, goal: Option<f64>) -> Measured {
    let leases = counted.leases.max(1) as f64;
    let images_per_second = counted.images as f64 / elapsed;
    Measured {
        images_a_lease: counted.images as f64 / leases,
        cycles_per_second: counted.leases as f64 / elapsed,
        images_per_second,
        parts,
        images: counted.images,
        settle_p50_ms: counted.settle.quantile_ms(0.5),
        settle_p99_ms: counted.settle.quantile_ms(0.99),
        grant_p50_ms: counted.grant.quantile_ms(0.5),
        grant_p99_ms: counted.grant.quantile_ms(0.99),
        coordinator_cpu_us: used.coordinator.as_secs_f64() * 1e6 / leases,
        database_cpu_us: used.database.as_secs_f64() * 1e6 / leases,
        workers_cpu_us: used.workers.as_secs_f64() * 1e6 / leases,
        goal,
        met: goal.map(|goal| images_per_second >= goal),
    }
}

fn text(document: &Document) -> String {
    let mut table = Table::new([
        "IMAGES/LEASE",
        "CYCLES/S",
        "IMAGES/S",
        "SETTLE P50/P99 MS",
        "GRANT P50/P99 MS",
        "CPU US: COORDINATOR",
        "DATABASE",
        "WORKERS",
        "GOAL",
    ]);
    for run in &document.runs {
        table.row([
            format!("{:.1}", run.images_a_lease),
            format!("{:.0}", run.cycles_per_second),
            format!("{:.0}", run.images_per_second),
            format!("{:.0} / {:.0}", run.settle_p50_ms, run.settle_p99_ms),
            format!("{:.0} / {:.0}", run.grant_p50_ms, run.grant_p99_ms),
            format!("{:.0}", run.coordinator_cpu_us),
            format!("{:.0}", run.database_cpu_us),
            format!("{:.0}", run.workers_cpu_us),
            verdict(run),
        ]);
    }
    let Document { sessions, credits, database, .. } = document;
    let parts: Vec<String> = document.runs.iter().map(steadiness).collect();
    format!(
        "{}\n{}\n{sessions} workers with {credits} credits each; {database}",
        table.render(),
        parts.join("\n")
    )
}

fn verdict(run: &Measured) -> String {
    match (run.goal, run.met) {
        (Some(goal), Some(true)) => format!("met ({goal:.0})"),
        (Some(goal), _) => format!("MISSED ({goal:.0})"),
        (None, _) => "-".to_owned(),
    }
}

/// Whether the rate held over the run.
fn steadiness(run: &Measured) -> String {
    let least = run.parts.iter().copied().fold(f64::INFINITY, f64::min);
    let (first, last) = (run.parts.first().copied(), run.parts.last().copied());
    format!(
        "{:.0} images a lease: {:.0} images/s in the first tenth, {:.0} in the last, {least:.0} in the slowest; \
         {} images stored while counting",
        run.images_a_lease,
        first.unwrap_or_default(),
        last.unwrap_or_default(),
        run.images
    )
}
