//! `bench`: how fast this machine is.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::bench::{backlog, control, crowd, engine, farm, pace};
use crate::exit::Exit;
use crate::output::Output;

/// Measure this machine: the engine, the farm's overhead, or the coordinator alone
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub action: BenchAction,
}

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchAction {
    Engine(engine::EngineArgs),
    Farm(farm::FarmArgs),
    Control(control::ControlArgs),
    Latency(pace::LatencyArgs),
    Crowd(crowd::CrowdArgs),
    Backlog(backlog::BacklogArgs),
}

/// Measures.
///
/// # Errors
/// If the farm cannot be started, or fails on the way.
pub async fn run(args: BenchArgs, output: Output) -> Result<Exit> {
    match args.action {
        BenchAction::Engine(args) => engine::run(args, output).await,
        BenchAction::Farm(args) => farm::run(args, output).await,
        BenchAction::Control(args) => control::run(args, output).await,
        BenchAction::Latency(args) => pace::run(args, output).await,
        BenchAction::Crowd(args) => crowd::run(args, output).await,
        BenchAction::Backlog(args) => backlog::run(args, output).await,
    }
}
