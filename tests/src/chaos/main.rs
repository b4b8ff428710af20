//! The program behind `cargo xtask chaos`; it also is the workers and the client of its farms.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use seedfarm_tests::chaos::{client, run, worker};

/// Breaks a farm of real processes on purpose, and holds what it stored against what it promised
#[derive(Debug, Parser)]
#[command(name = "chaos", args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  cargo xtask chaos --rounds 100 --seed 1
  cargo xtask chaos --rounds 1 --seed 37                      one round again
  cargo xtask chaos --faults kill-postgres,kill-coordinator --rounds 50
  cargo xtask chaos --namespaces --faults cut,one-way,loss,delay --rounds 200 --json cuts.json
  cargo xtask chaos --faults snapshot --load 600 --rounds 1   a snapshot held for ten minutes

Exit codes: 0 everything that must be 0 is, 1 it is not, 2 the command line is wrong.")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: run::RunArgs,
}

/// The processes of a round that are this program.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
    #[command(hide = true)]
    Client(client::ClientArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.part {
        None => run::run(&cli.run),
        Some(Part::Worker(args)) => block_on(worker::run(args)),
        Some(Part::Client(args)) => block_on(client::run(args)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(part: impl Future<Output = Result<()>>) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(part)?;
    Ok(true)
}
