//! `bench crowd`: how many workers one coordinator holds, and what each costs it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seedfarm_proto::v1;
use serde::Serialize;

use super::process::Coordinator;
use super::workload;
use crate::args::ModelArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::table::facts;

/// Memory of the coordinator for each worker to stay under, in bytes.
const GOAL: u64 = 64 * 1024;
/// Workers that connect between two looks at the coordinator.
const TOGETHER: u32 = 250;
/// How long the coordinator is watched while all are connected and say their heartbeats.
const HOLD: Duration = Duration::from_secs(15);
/// File descriptors of this process besides those of its connections.
const OTHER_FILES: u64 = 256;
/// Between two looks whether the coordinator counts all of them.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many workers one coordinator holds, and what memory each costs it
///
/// Each worker has a connection of its own, says Hello and heartbeats, and waits for work. Ends with exit code
/// 1 if a worker costs the coordinator 64 KiB or more, or one is lost. Needs two open files for each worker
/// (ulimit -n).
#[derive(Debug, Clone, Args)]
pub struct CrowdArgs {
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub workers: u32,

    /// Folder of the programs postgres and initdb
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    workers: u32,
    /// Workers that the coordinator still counts at the end.
    connected: u32,
    connect_seconds: f64,
    memory_before_bytes: u64,
    memory_bytes: u64,
    bytes_a_worker: u64,
    goal_bytes: u64,
    met: bool,
}

/// Measures.
///
/// # Errors
/// If the coordinator cannot be started or refuses a worker, or there are too few files to be had.
pub async fn run(args: CrowdArgs, output: Output) -> Result<Exit> {
    make_room(u64::from(args.workers) + OTHER_FILES)?;
    let coordinator = Coordinator::start(args.pg_bin.as_ref()).await?;
    let measured = measure(&args, &coordinator, output).await;
    coordinator.stop().await?;
    let measured = measured?;
    output.result(&measured, || text(&measured))?;
    Ok(if measured.met { Exit::Done } else { Exit::Failed })
}

/// Raises the number of files that this process, and the coordinator that it starts, may have open.
fn make_room(files: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(
        files <= most,
        "{files} open files are needed and {most} are allowed: raise the limit (ulimit -Hn {files}), or ask for \
         fewer --workers"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })
        .context("the number of open files cannot be raised")
}

async fn measure(args: &CrowdArgs, coordinator: &Coordinator, output: Output) -> Result<Measured> {
    let manifest = workload::manifest(&args.models).await?;
    let terms = workload::terms(coordinator, &manifest, 1, 1).await?;
    let farm = Farm::open(&coordinator.url, None, &coordinator.client_token).await?;
    let memory_before_bytes = coordinator.memory_bytes();
    let start = Instant::now();
    let mut sessions = workload::start(&terms, 0)?;
    let mut connected = 0;
    while connected < args.workers {
        let more = TOGETHER.min(args.workers - connected);
        for _ in 0..more {
            sessions.spawn(super::session::run(terms.clone(), workload::worker_id()?));
        }
        connected += more;
        await_workers(&farm, connected, &mut sessions).await?;
        output.note(&format!("{connected} of {} workers are connected", args.workers));
    }
    let connect_seconds = start.elapsed().as_secs_f64();
    workload::wait(&mut sessions, HOLD).await?;
    let memory_bytes = coordinator.memory_bytes();
    let connected = workers(&farm).await?;
    let bytes_a_worker = memory_bytes.saturating_sub(memory_before_bytes) / u64::from(args.workers);
    Ok(Measured {
        workers: args.workers,
        connected,
        connect_seconds,
        memory_before_bytes,
        memory_bytes,
        bytes_a_worker,
        goal_bytes: GOAL,
        met: bytes_a_worker < GOAL && connected == args.workers,
    })
}

async fn await_workers(
    farm: &Farm,
    wanted: u32,
    sessions: &mut tokio::task::JoinSet<Result<super::session::Counted>>,
) -> Result<()> {
    while workers(farm).await? < wanted {
        workload::wait(sessions, LOOK_AGAIN).await?;
    }
    Ok(())
}

async fn workers(farm: &Farm) -> Result<u32> {
    Ok(farm.farm().get_status(v1::GetStatusRequest {}).await?.into_inner().workers)
}

fn text(measured: &Measured) -> String {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let verdict = if measured.met { "goal met" } else { "GOAL MISSED" };
    facts(&[
        (
            "workers",
            format!(
                "{} of {} connected, in {:.1} s",
                measured.connected, measured.workers, measured.connect_seconds
            ),
        ),
        (
            "coordinator",
            format!("{} before, {} with them", mib(measured.memory_before_bytes), mib(measured.memory_bytes)),
        ),
        (
            "a worker",
            format!(
                "{:.1} KiB (goal under {} KiB)",
                measured.bytes_a_worker as f64 / 1024.0,
                measured.goal_bytes / 1024
            ),
        ),
        ("verdict", verdict.to_owned()),
    ])
}
