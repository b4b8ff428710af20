//! `logs`: what happened during attempts, as their workers told it.

use anyhow::Result;
use clap::Args;
use seedfarm_core::{ImageId, JobId};
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::log;

/// Show what workers tell of their attempts at a job or an image, newest first
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm logs JOB                      the newest attempts at a job
  seedfarm logs JOB/17 --failed          why image 17 failed
  seedfarm logs --worker WORKER          the newest attempts of one worker

Logs of attempts that ended well are kept for a day, and at most the newest 10000 of them; logs of
failures are kept for 30 days. They hold no prompts.")]
pub struct LogsArgs {
    /// A job, or one image of it as JOB/INDEX
    #[arg(value_name = "JOB[/INDEX]", required_unless_present = "worker")]
    pub what: Option<String>,

    /// Only attempts of this worker
    #[arg(long, value_name = "WORKER")]
    pub worker: Option<String>,

    /// Only attempts that failed
    #[arg(long)]
    pub failed: bool,

    /// Most attempts to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,

    /// Show older ones: the number that stands below the attempts shown before
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub before: Option<i64>,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Lists.
///
/// # Errors
/// If what is given is no job and no image, or the coordinator does not answer.
pub async fn run(args: LogsArgs, output: Output) -> Result<Exit> {
    let request = request(&args)?;
    let farm = Farm::connect(&args.client).await?;
    let answer = farm.farm().list_logs(request).await?.into_inner();
    let document = json!({
        "logs": answer.logs.iter().map(json::attempt_log).collect::<Vec<_>>(),
        "next": (answer.next > 0).then_some(answer.next),
    });
    output.result(&document, || log::text(&answer))?;
    Ok(Exit::Done)
}

fn request(args: &LogsArgs) -> Result<v1::ListLogsRequest> {
    let (job, image) = match args.what.as_deref() {
        Some(what) => named(what)?,
        None => (None, None),
    };
    Ok(v1::ListLogsRequest {
        job_id: job.map(|job| job.to_string()).unwrap_or_default(),
        image,
        worker_id: args.worker.clone().unwrap_or_default(),
        failed: args.failed,
        limit: args.limit,
        before: args.before.unwrap_or(0),
    })
}

/// The job, and the image where one is named.
fn named(what: &str) -> Result<(Option<JobId>, Option<u64>), Failure> {
    if let Ok(job) = what.parse::<JobId>() {
        return Ok((Some(job), None));
    }
    let image = what.parse::<ImageId>().map_err(|_| {
        let message =
            format!("'{what}' is no job and no image: give a job as 'seedfarm jobs' lists it, or JOB/INDEX");
        Failure::usage("BAD_ARGUMENT", message)
    })?;
    Ok((Some(image.job), Some(image.index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_or_an_image_of_it_is_understood_and_nothing_else() {
        let job: JobId = format!("job_{:032x}", 7).parse().unwrap();
        assert_eq!(named(&job.to_string()).unwrap(), (Some(job), None));
        assert_eq!(named(&format!("{job}/3")).unwrap(), (Some(job), Some(3)));
        for bad in ["", "7", "job_7/1/2"] {
            assert!(named(bad).unwrap_err().message.contains("JOB/INDEX"), "{bad}");
        }
    }
}
