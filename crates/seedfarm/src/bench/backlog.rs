//! `bench backlog`: what a long queue costs.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::latency::Latencies;
use super::process::Coordinator;
use super::workload;
use crate::args::ModelArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::table::facts;

/// Memory of the coordinator to stay under, in bytes.
const GOAL_BYTES: u64 = 500 << 20;
/// Seconds of the slowest submission to stay under.
const GOAL_SECONDS: f64 = 1.0;

/// Memory of a coordinator with a long queue, and how long a submission takes
///
/// A hundred million images in a thousand jobs unless asked otherwise. Ends with exit code 1 if the coordinator
/// takes 500 MiB or more, or a submission a second or more.
#[derive(Debug, Clone, Args)]
pub struct BacklogArgs {
    /// Jobs
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub jobs: u32,

    /// Images of each job
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub images: u64,

    /// Folder of the programs postgres and initdb
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    jobs: u32,
    images: u64,
    submit_p50_ms: f64,
    submit_slowest_ms: f64,
    memory_before_bytes: u64,
    memory_bytes: u64,
    met: bool,
}

/// Measures.
///
/// # Errors
/// If the coordinator cannot be started, or refuses a job.
pub async fn run(args: BacklogArgs, output: Output) -> Result<Exit> {
    let coordinator = Coordinator::start(args.pg_bin.as_ref()).await?;
    let measured = measure(&args, &coordinator).await;
    coordinator.stop().await?;
    let measured = measured?;
    output.result(&measured, || text(&measured))?;
    Ok(if measured.met { Exit::Done } else { Exit::Failed })
}

async fn measure(args: &BacklogArgs, coordinator: &Coordinator) -> Result<Measured> {
    let manifest = workload::manifest(&args.models).await?;
    let farm = Farm::open(&coordinator.url, None, &coordinator.client_token).await?;
    let memory_before_bytes = coordinator.memory_bytes();
    let mut submits = Latencies::default();
    for _ in 0..args.jobs {
        let start = Instant::now();
        workload::submit(&farm, &manifest, args.images).await?;
        submits.push(start.elapsed());
    }
    let submit_slowest_ms = submits.quantile_ms(1.0);
    let memory_bytes = coordinator.memory_bytes();
    Ok(Measured {
        jobs: args.jobs,
        images: u64::from(args.jobs) * args.images,
        submit_p50_ms: submits.quantile_ms(0.5),
        submit_slowest_ms,
        memory_before_bytes,
        memory_bytes,
        met: memory_bytes < GOAL_BYTES && submit_slowest_ms < GOAL_SECONDS * 1000.0,
    })
}

fn text(measured: &Measured) -> String {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let verdict = if measured.met { "goals met" } else { "GOALS MISSED" };
    facts(&[
        ("queue", format!("{} images in {} jobs", measured.images, measured.jobs)),
        (
            "submission",
            format!(
                "p50 {:.1} ms, slowest {:.1} ms (goal under {GOAL_SECONDS} s)",
                measured.submit_p50_ms, measured.submit_slowest_ms
            ),
        ),
        (
            "coordinator",
            format!(
                "{} before, {} with the queue (goal under {})",
                mib(measured.memory_before_bytes),
                mib(measured.memory_bytes),
                mib(GOAL_BYTES)
            ),
        ),
        ("verdict", verdict.to_owned()),
    ])
}
