//! The command line: one file a subcommand under `commands`.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    bench, coordinator, db, demo, doctor, fetch, gateway, images, inspect, job, jobs, limits, logs, models,
    render, replay, set, status, submit, tenants, up, upload, watch, why, worker, workers,
};

/// A render farm for diffusion images in which every image is a recipe that anyone can render again
/// and prove
#[derive(Debug, Parser)]
#[command(name = "seedfarm", version, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(after_long_help = "\
Examples:
  seedfarm demo                          see it work on this machine
  seedfarm up                            a farm on this machine, until Ctrl-C
  seedfarm submit prompts.jsonl --seed 42 --count 4 --watch
  seedfarm fetch JOB --out pictures
  seedfarm replay pictures/0-42.png
  seedfarm render --prompt 'red apple on a yellow background' --seed 7 --out apple.png

Exit codes: 0 done, 1 failed, 64 the request itself is wrong, 75 try again later.")]
pub struct Cli {
    /// Options of every subcommand.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every subcommand.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct GlobalArgs {
    /// Print exactly one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// How log lines on standard error look: human or json
    ///
    /// How much is logged: SEEDFARM_LOG or RUST_LOG, such as debug or seedfarm_worker=debug.
    #[arg(long, global = true, value_enum, hide_possible_values = true, value_name = "FORMAT", default_value_t = LogChoice::Human)]
    pub log: LogChoice,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogChoice {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::DemoArgs),
    Up(up::UpArgs),
    Coordinator(coordinator::CoordinatorArgs),
    Worker(worker::WorkerArgs),
    Gateway(gateway::GatewayArgs),
    Submit(Box<submit::SubmitArgs>),
    Upload(upload::UploadArgs),
    Watch(watch::WatchArgs),
    Fetch(fetch::FetchArgs),
    Jobs(jobs::JobsArgs),
    Job(job::JobArgs),
    Logs(logs::LogsArgs),
    Cancel(job::CancelArgs),
    Pause(job::PauseArgs),
    Resume(job::ResumeArgs),
    Set(Box<set::SetArgs>),
    Retry(images::RetryArgs),
    Skip(images::SkipArgs),
    Replay(replay::ReplayArgs),
    Inspect(inspect::InspectArgs),
    Render(Box<render::RenderArgs>),
    Models(models::ModelsArgs),
    Workers(workers::WorkersArgs),
    Tenants(tenants::TenantsArgs),
    Limits(limits::LimitsArgs),
    Why(why::WhyArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Db(db::DbArgs),
    Bench(bench::BenchArgs),
}

impl Command {
    /// What is logged unless the environment says otherwise: processes that stay tell what they do, the
    /// others only what is wrong.
    pub const fn default_log(&self) -> &'static str {
        match self {
            Self::Up(_) | Self::Coordinator(_) | Self::Worker(_) | Self::Gateway(_) => "info,sqlx=warn",
            _ => "warn",
        }
    }
}

#[cfg(test)]
mod tests;
