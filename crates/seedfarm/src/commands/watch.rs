//! `watch`: a job's progress until it is over.

use anyhow::Result;
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::{Farm, follow};
use crate::exit::Exit;
use crate::human;
use crate::output::Output;
use crate::progress::Progress;
use crate::text::job::label;

/// Watch a job until it is finished or cancelled
///
/// A coordinator that restarts meanwhile is waited for.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    pub job: String,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Watches.
///
/// # Errors
/// If there is no such job, or the coordinator stays away.
pub async fn run(args: WatchArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    follow(&farm, &args.job, output).await
}

/// Shows a job's progress until it is over, and then what became of it.
///
/// # Errors
/// As [`run`].
pub async fn follow(farm: &Farm, job_id: &str, output: Output) -> Result<Exit> {
    let job = with_progress(farm, job_id, output).await?;
    let document = json!({ "job": json::job(&job) });
    output.result(&document, || verdict(&job))?;
    Ok(exit(&job))
}

/// Shows a job's progress until it is over.
///
/// # Errors
/// As [`run`].
pub async fn with_progress(farm: &Farm, job_id: &str, output: Output) -> Result<v1::Job> {
    let mut progress: Option<Progress> = None;
    let job = follow::job(farm, job_id, |event| {
        if let Some(job) = &event.job {
            let progress = progress.get_or_insert_with(|| Progress::new(output, label(job), job.total));
            progress.set(job.done + job.failed, &message(job, event));
        }
    })
    .await?;
    if let Some(progress) = &mut progress {
        progress.finish(job.done + job.failed, &verdict(&job));
    }
    Ok(job)
}

fn message(job: &v1::Job, event: &v1::WatchJobResponse) -> String {
    let left = job.total.saturating_sub(job.done + job.failed);
    let rate = event.images_per_second;
    let mut parts = Vec::new();
    match job.state() {
        v1::JobState::Paused => parts.push("paused".to_owned()),
        _ if event.leases == 0 && left > 0 && rate <= 0.0 => parts.push("waiting for a worker".to_owned()),
        _ => parts.extend([human::rate(rate), format!("ETA {}", human::eta(left, rate))]),
    }
    if event.workers > 1 {
        parts.push(format!("{} workers", event.workers));
    }
    if job.failed > 0 {
        parts.push(format!("{} given up", job.failed));
    }
    parts.join(", ")
}

fn verdict(job: &v1::Job) -> String {
    let state = json::state(job.state());
    let took = job.finished_at_ms.and_then(|end| u64::try_from(end - job.created_at_ms).ok());
    let took = took.map(|ms| format!(" in {:.1} s", ms as f64 / 1000.0)).unwrap_or_default();
    match job.failed {
        0 => format!("{state}: {} of {} images{took}", job.done, job.total),
        failed => format!(
            "{state}: {} of {} images, {failed} given up (seedfarm job {})",
            job.done, job.total, job.id
        ),
    }
}

/// Success if the job has every image that was asked for.
pub fn exit(job: &v1::Job) -> Exit {
    if job.done == job.total { Exit::Done } else { Exit::Failed }
}
