//! `bench`: how fast this machine is.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::bench::{control, engine, farm};
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
    }
}
