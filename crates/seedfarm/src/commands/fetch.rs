//! `fetch`: a job's pictures as files.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_proto::{json, v1};
use serde_json::{Value, json};

use crate::args::ClientArgs;
use crate::client::Farm;
use crate::client::download::{self, Fetched, How};
use crate::exit::Exit;
use crate::output::Output;
use crate::progress::Progress;
use crate::sheet;
use crate::text;
use crate::text::job::{is_final, label};

/// Fetch a job's pictures as INDEX-SEED.png
///
/// Each file is verified by its SHA-256 and its pixels by their digest. Files that are there already are
/// kept, so an interrupted fetch goes on where it stopped, and a job that is still rendering can be fetched
/// again later.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm fetch JOB --out pictures
  seedfarm fetch JOB --out pictures --sheet")]
pub struct FetchArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    pub job: String,

    /// Folder for the pictures; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Also write contact-sheet.png, with the first 256 pictures
    #[arg(long)]
    pub sheet: bool,

    #[command(flatten)]
    pub client: ClientArgs,
}

/// Fetches.
///
/// # Errors
/// If there is no such job, a file cannot be written, or the farm's bytes are damaged.
pub async fn run(args: FetchArgs, output: Output) -> Result<Exit> {
    let farm = Farm::connect(&args.client).await?;
    let request = v1::GetJobRequest { job_id: args.job.clone() };
    let job = farm.jobs().get_job(request).await?.into_inner().job;
    let job = job.context("the coordinator's answer lacks the job")?;
    let fetched = with_progress(&farm, &job, &args.out, output).await?;
    let files: Vec<PathBuf> = present(&fetched).map(|one| one.path.clone()).collect();
    let sheet = args.out.join("contact-sheet.png");
    let has_sheet = args.sheet && !files.is_empty();
    if has_sheet {
        sheet::write(&files, &sheet)?;
    }
    let gone = fetched.len() - files.len();
    let document = json!({
        "job": json::job(&job),
        "images": fetched.iter().map(document).collect::<Vec<_>>(),
        "sheet": has_sheet.then(|| sheet.display().to_string()),
    });
    output.result(&document, || summary(&job, &args, &fetched, has_sheet))?;
    Ok(if gone == 0 { Exit::Done } else { Exit::Failed })
}

/// Fetches with a progress bar.
///
/// # Errors
/// As [`run`].
pub async fn with_progress(
    farm: &Farm,
    job: &v1::Job,
    out: &std::path::Path,
    output: Output,
) -> Result<Vec<Fetched>> {
    let mut progress = Progress::new(output, &format!("fetch {}", label(job)), job.done);
    let mut done = 0;
    let fetched = download::job(farm, job, out, |_| {
        done += 1;
        progress.set(done, "");
    })
    .await?;
    progress.finish(done, &format!("in {}", out.display()));
    Ok(fetched)
}

/// The images whose files are there.
pub fn present(fetched: &[Fetched]) -> impl Iterator<Item = &Fetched> {
    fetched.iter().filter(|one| one.how != How::Gone)
}

/// An image with its file, as JSON; the path is null where the farm has no bytes any more.
pub fn document(fetched: &Fetched) -> Value {
    let mut image = json::image(&fetched.image);
    let there = fetched.how != How::Gone;
    image["path"] = json!(there.then(|| fetched.path.display().to_string()));
    image
}

fn warnings_of(image: &v1::Image) -> v1::ImageWarnings {
    v1::ImageWarnings { id: image.id.clone(), texts: image.warnings.clone() }
}

fn summary(job: &v1::Job, args: &FetchArgs, fetched: &[Fetched], has_sheet: bool) -> String {
    let count = |how: How| fetched.iter().filter(|one| one.how == how).count();
    let kept = match count(How::Kept) {
        0 => String::new(),
        kept => format!(", {kept} were there already"),
    };
    let mut lines = vec![format!("{} pictures fetched to {}{kept}", count(How::Fetched), args.out.display())];
    if has_sheet {
        lines.push(format!("contact sheet: {}", args.out.join("contact-sheet.png").display()));
    }
    let warned = fetched.iter().filter(|one| !one.image.warnings.is_empty());
    let warned: Vec<v1::ImageWarnings> = warned.map(|one| warnings_of(&one.image)).collect();
    if !warned.is_empty() {
        lines.push(text::job::warnings(&warned));
    }
    if let Some(gone) = fetched.iter().find(|one| one.how == How::Gone) {
        let (count, id) = (count(How::Gone), &gone.image.id);
        lines
            .push(format!("{count} pictures are no longer stored; 'seedfarm replay {id}' renders one again"));
    }
    if !is_final(job) {
        lines.push(format!("{} of {} images are rendered so far; fetch again later", job.done, job.total));
    }
    lines.join("\n")
}
