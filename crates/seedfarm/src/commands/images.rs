//! `retry` and `skip`: images of a job that were given up, or shall be.

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::client::Farm;
use crate::commands::job::JobRef;
use crate::exit::Exit;
use crate::output::Output;

/// Put images that were given up back into the queue, as if never tried
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm retry JOB
  seedfarm retry JOB --where 'out of memory'
  seedfarm retry JOB --images 3,7-9")]
pub struct RetryArgs {
    #[command(flatten)]
    pub of: JobRef,

    /// Only those whose error holds this text
    #[arg(long = "where", value_name = "TEXT", default_value = "")]
    pub error: String,

    /// Only these, such as 3,7-9
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = images)]
    pub images: Vec<v1::Images>,
}

/// Give up images that wait, so that the job can finish without them
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Images that are being rendered are not given up. 'seedfarm retry' brings them back.

Examples:
  seedfarm skip JOB --images 3,7-9 --reason 'bad prompts'
  seedfarm skip JOB --all-waiting")]
pub struct SkipArgs {
    #[command(flatten)]
    pub of: JobRef,

    /// These images, such as 3,7-9
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = images)]
    #[arg(required_unless_present = "all_waiting", conflicts_with = "all_waiting")]
    pub images: Vec<v1::Images>,

    /// All that wait
    #[arg(long)]
    pub all_waiting: bool,

    /// Why, for whoever looks at the job later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// Retries.
///
/// # Errors
/// If there is no such job, or it is cancelled.
pub async fn retry(args: RetryArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.of.client).await?;
    let request = v1::RetryImagesRequest { job_id: args.of.job, images: args.images, error: args.error };
    let answer = farm.jobs().retry_images(request).await?.into_inner();
    show(answer.job, answer.images, "back in the queue", output)
}

/// Gives up.
///
/// # Errors
/// If there is no such job, or it is over.
pub async fn skip(args: SkipArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.of.client).await?;
    let request = v1::SkipImagesRequest { job_id: args.of.job, images: args.images, reason: args.reason };
    let answer = farm.jobs().skip_images(request).await?.into_inner();
    show(answer.job, answer.images, "given up", output)
}

fn show(job: Option<v1::Job>, images: u64, what: &str, output: Output) -> Result<Exit> {
    let job = job.context("the coordinator's answer lacks the job")?;
    let document = json!({ "job": json::job(&job), "images": images });
    output.result(&document, || {
        format!("{images} images are {what}; {} is {}", job.id, json::state(job.state()))
    })?;
    Ok(Exit::Done)
}

/// Reads `7` or `7-9`, both ends included.
fn images(text: &str) -> Result<v1::Images, String> {
    let refused = || format!("'{text}' is no image or range of images: give 7, or 7-9");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| refused());
    let (lo, last) = (number(first)?, number(last)?);
    let hi = last.checked_add(1).filter(|hi| lo < *hi).ok_or_else(refused)?;
    Ok(v1::Images { lo, hi })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_given_one_by_one_or_from_first_to_last() {
        assert_eq!(images("7"), Ok(v1::Images { lo: 7, hi: 8 }));
        assert_eq!(images("7-9"), Ok(v1::Images { lo: 7, hi: 10 }));
        for text in ["", "-", "9-7", "a", "1-18446744073709551615"] {
            assert!(images(text).unwrap_err().contains(text), "{text}");
        }
    }
}
