//! `job`, `cancel`, `pause`, `resume`: one job.

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::output::Output;
use crate::text;

/// Which job.
#[derive(Debug, Clone, Args)]
pub struct JobRef {
    /// The job's id
    #[arg(value_name = "JOB")]
    pub job: String,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Show one job, the images that were given up, and warnings of those that were made
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    #[command(flatten)]
    pub of: JobRef,

    /// Show what people changed of it after its submission, too
    #[arg(long)]
    pub history: bool,
}

/// Stop a job for good; images that were made stay
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    pub of: JobRef,
}

/// Give out no more of a job; what is being rendered is finished
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    pub of: JobRef,
}

/// Go on with a paused job
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub of: JobRef,
}

/// Shows a job.
///
/// # Errors
/// If there is no such job.
pub async fn run(args: JobArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.of.client).await?;
    let changes = match args.history {
        true => {
            let request = v1::ListChangesRequest { job_id: args.of.job.clone() };
            farm.jobs().list_changes(request).await?.into_inner().changes
        }
        false => Vec::new(),
    };
    let found = farm.jobs().get_job(v1::GetJobRequest { job_id: args.of.job }).await?.into_inner();
    let job = found.job.context("the coordinator's answer lacks the job")?;
    let dead: Vec<_> = found.dead.iter().map(json::dead).collect();
    let warnings: Vec<_> = found.warnings.iter().map(json::warnings).collect();
    let mut document = json!({ "job": json::job(&job), "dead": dead, "warnings": warnings });
    if args.history {
        document["history"] = changes.iter().map(json::change).collect();
    }
    let text = || {
        let parts = [
            text::job::text(&job),
            text::job::dead(&found.dead),
            text::job::warnings(&found.warnings),
            text::job::changes(&changes),
        ];
        parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.trim_end())
            .collect::<Vec<_>>()
            .join("\n")
    };
    output.result(&document, text)?;
    Ok(Exit::Done)
}

/// Cancels a job.
///
/// # Errors
/// If there is no such job, or it is finished.
pub async fn cancel(args: CancelArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.of.client).await?;
    let request = v1::CancelJobRequest { job_id: args.of.job };
    let job = farm.jobs().cancel_job(request).await?.into_inner().job;
    show(job, output)
}

/// Pauses a job.
///
/// # Errors
/// If there is no such job, or it is over.
pub async fn pause(args: PauseArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.of.client).await?;
    let request = v1::PauseJobRequest { job_id: args.of.job };
    let job = farm.jobs().pause_job(request).await?.into_inner().job;
    show(job, output)
}

/// Resumes a job.
///
/// # Errors
/// If there is no such job, or it is over.
pub async fn resume(args: ResumeArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.of.client).await?;
    let request = v1::ResumeJobRequest { job_id: args.of.job };
    let job = farm.jobs().resume_job(request).await?.into_inner().job;
    show(job, output)
}

fn show(job: Option<v1::Job>, output: Output) -> Result<Exit> {
    let job = job.context("the coordinator's answer lacks the job")?;
    let document = json!({ "job": json::job(&job) });
    output.result(&document, || format!("{} is {}", job.id, json::state(job.state())))?;
    Ok(Exit::Done)
}
