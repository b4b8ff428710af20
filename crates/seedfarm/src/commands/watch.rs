//! `watch`: a job's progress until it is over.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
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

    /// Keep pictures of images in the making in DIR, named by index; workers make them with --previews
    #[arg(long, value_name = "DIR")]
    pub previews: Option<PathBuf>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Watches.
///
/// # Errors
/// If there is no such job, or the coordinator stays away.
pub async fn run(args: WatchArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    follow(&farm, &args.job, args.previews.as_deref(), output).await
}

/// Shows a job's progress until it is over, and then what became of it.
///
/// # Errors
/// As [`run`].
pub async fn follow(farm: &Farm, job_id: &str, previews: Option<&Path>, output: Output) -> Result<Exit> {
    let job = with_progress(farm, job_id, previews, output).await?;
    let document = json!({ "job": json::job(&job) });
    output.result(&document, || verdict(&job))?;
    Ok(exit(&job))
}

/// Shows a job's progress until it is over; `previews` is a folder for pictures of images in the making.
///
/// # Errors
/// As [`run`], and if the folder cannot be made.
pub async fn with_progress(
    farm: &Farm,
    job_id: &str,
    previews: Option<&Path>,
    output: Output,
) -> Result<v1::Job> {
    if let Some(folder) = previews {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    }
    let request = v1::WatchJobRequest { job_id: job_id.to_owned(), previews: previews.is_some() };
    let mut progress: Option<Progress> = None;
    let job = follow::job(farm, &request, |event| {
        if let (Some(folder), Some(preview)) = (previews, &event.preview) {
            keep(folder, preview);
        }
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

/// A preview that cannot be kept is worth a word, and no end of the watch.
fn keep(folder: &Path, preview: &v1::Preview) {
    let path = folder.join(format!("{}.png", preview.index));
    if let Err(error) = std::fs::write(&path, &preview.png) {
        tracing::warn!(path = %path.display(), %error, "a preview cannot be kept");
    }
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
