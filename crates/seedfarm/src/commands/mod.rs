//! One file a subcommand: its options, and what it does.

pub mod bench;
pub mod coordinator;
pub mod db;
pub mod demo;
pub mod doctor;
pub mod fetch;
pub mod gateway;
pub mod images;
pub mod inspect;
pub mod job;
pub mod jobs;
pub mod limits;
pub mod logs;
pub mod models;
pub mod render;
pub mod replay;
pub mod set;
pub mod status;
pub mod submit;
pub mod tenants;
pub mod up;
pub mod upload;
pub mod watch;
pub mod why;
pub mod worker;
pub mod workers;

use anyhow::Result;

use crate::cli::Command;
use crate::exit::Exit;
use crate::output::Output;

/// Runs a subcommand.
///
/// # Errors
/// Whatever the subcommand could not do.
pub async fn run(command: Command, output: Output) -> Result<Exit> {
    match command {
        Command::Demo(args) => demo::run(args, output).await,
        Command::Up(args) => up::run(args, output).await,
        Command::Coordinator(args) => coordinator::run(args, output).await,
        Command::Worker(args) => worker::run(args, output).await,
        Command::Gateway(args) => gateway::run(args, output).await,
        Command::Submit(args) => submit::run(*args, output).await,
        Command::Upload(args) => upload::run(args, output).await,
        Command::Watch(args) => watch::run(args, output).await,
        Command::Fetch(args) => fetch::run(args, output).await,
        Command::Jobs(args) => jobs::run(args, output).await,
        Command::Logs(args) => logs::run(args, output).await,
        Command::Job(args) => job::run(args, output).await,
        Command::Cancel(args) => job::cancel(args, output).await,
        Command::Pause(args) => job::pause(args, output).await,
        Command::Resume(args) => job::resume(args, output).await,
        Command::Set(args) => set::run(*args, output).await,
        Command::Retry(args) => images::retry(args, output).await,
        Command::Skip(args) => images::skip(args, output).await,
        Command::Replay(args) => replay::run(args, output).await,
        Command::Inspect(args) => inspect::run(args, output),
        Command::Render(args) => render::run(*args, output).await,
        Command::Models(args) => models::run(args, output).await,
        Command::Workers(args) => workers::run(args, output).await,
        Command::Tenants(args) => tenants::run(args, output).await,
        Command::Limits(args) => limits::run(args, output).await,
        Command::Why(args) => why::run(args, output).await,
        Command::Status(args) => status::run(args, output).await,
        Command::Doctor(args) => doctor::run(args, output).await,
        Command::Db(args) => db::run(args, output).await,
        Command::Bench(args) => bench::run(args, output).await,
    }
}
