//! `replay`: an image rendered again and compared.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::ImageId;
use seedfarm_core::limits::MAX_ARTIFACT_BYTES;
use seedfarm_proto::v1::create_replay_request::Original;

use crate::args::ClientArgs;
use crate::client::{Farm, follow, replay};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::text;

/// Render an image again and say whether it is what its recipe gives
///
/// The verdict is exact (every pixel is the same), equivalent (another numeric class, nobody would see it),
/// different or unverifiable (a part, such as the model, is gone). The last two end with exit code 1.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm replay job_0192f0c4d5e67a8b9c0d1e2f3a4b5c6d/17
  seedfarm replay picture.png             from the file alone, wherever it was made")]
pub struct ReplayArgs {
    /// An image's id (job_…/index), or a PNG file with a recipe inside
    #[arg(value_name = "IMAGE|FILE")]
    pub image: String,

    /// How long to wait for the verdict; 0 does not wait
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "600", default_missing_value = "86400")]
    pub wait: u64,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Replays.
///
/// # Errors
/// If there is no such image or file, the file holds no recipe, or the verdict takes too long.
pub async fn run(args: ReplayArgs, output: Output) -> Result<Exit> {
    let original = original(&args.image)?;
    let farm = Farm::connect(&args.client).await?;
    let mut replay = replay::create(&farm, original).await?;
    if replay.outcome.is_none() && args.wait > 0 {
        output.note("rendering it again ...");
        let waiting = follow::replay(&farm, &replay.id);
        replay = tokio::time::timeout(Duration::from_secs(args.wait), waiting).await.map_err(|_| {
            let message = format!(
                "no verdict after {} s: is a worker connected ('seedfarm workers')? The replay {} goes on",
                args.wait, replay.id
            );
            Failure::try_again("NO_VERDICT_YET", message)
        })??;
    }
    output.result(&text::replay::document(&replay), || text::replay::text(&replay))?;
    Ok(text::replay::exit(&replay))
}

fn original(image: &str) -> Result<Original> {
    let path = PathBuf::from(image);
    if !path.exists() {
        let id = image.parse::<ImageId>().map_err(|error| {
            Failure::usage("NO_IMAGE", format!("{error}, and there is no file of that name"))
        })?;
        return Ok(Original::ImageId(id.to_string()));
    }
    let size = std::fs::metadata(&path).with_context(|| format!("cannot read {image}"))?.len();
    if size > MAX_ARTIFACT_BYTES as u64 {
        let message = format!("{image} has {size} bytes, more than the limit of {MAX_ARTIFACT_BYTES}");
        return Err(Failure::failed("ARTIFACT_TOO_LARGE", message).into());
    }
    let png = std::fs::read(&path).with_context(|| format!("cannot read {image}"))?;
    replay::foreign(&path, png)
}
