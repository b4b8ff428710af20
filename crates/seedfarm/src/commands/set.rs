//! `set`: other terms for a job that was submitted.

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_core::JobId;
use seedfarm_core::owner::ByteSize;
use seedfarm_core::terms::{Tag, Urgency};
use seedfarm_proto::{json, v1};
use serde_json::json;

use crate::args::terms::{Change, change, milliseconds, moment};
use crate::client::Farm;
use crate::commands::job::JobRef;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::text;

/// Change the terms of an unfinished job
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
'none' takes a term away. A job that stopped at its budget or its failures goes on with 'seedfarm resume' once
that is raised.

Examples:
  seedfarm set JOB --priority 20
  seedfarm set JOB --urgency interactive --max-devices 2
  seedfarm set JOB --budget 6h && seedfarm resume JOB
  seedfarm set JOB --deadline none --after none")]
pub struct SetArgs {
    #[command(flatten)]
    pub of: JobRef,

    /// bulk or interactive
    #[arg(long, value_name = "URGENCY", value_parser = Urgency::from_name)]
    pub urgency: Option<Urgency>,

    /// -100 to 100; higher goes first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,

    /// When it should be finished: a time, or one from now such as '2h 30m'
    #[arg(long, value_name = "WHEN|none", value_parser = |text: &str| change(text, moment))]
    pub deadline: Option<Change<i64>>,

    /// Tags that its workers must bear; may be repeated
    #[arg(long = "tag", value_name = "TAG|none", value_parser = |text: &str| change(text, str::parse::<Tag>))]
    pub tags: Vec<Change<Tag>>,

    /// Memory that its devices must have
    #[arg(long, value_name = "SIZE|none", value_parser = |text: &str| change(text, str::parse::<ByteSize>))]
    pub min_memory: Option<Change<ByteSize>>,

    /// Most devices at once
    #[arg(long, value_name = "N|none", value_parser = |text: &str| change(text, str::parse::<u32>))]
    pub max_devices: Option<Change<u32>>,

    /// Device time after which it is paused
    #[arg(long, value_name = "DURATION|none", value_parser = |text: &str| change(text, milliseconds))]
    pub budget: Option<Change<u64>>,

    /// Images that may be given up before it is paused
    #[arg(long, value_name = "N|none", value_parser = |text: &str| change(text, str::parse::<u64>))]
    pub max_failures: Option<Change<u64>>,

    /// Device time below which an image counts as none
    #[arg(long, value_name = "DURATION|none", value_parser = |text: &str| change(text, milliseconds))]
    pub min_image_time: Option<Change<u64>>,

    /// Jobs that must be finished before; may be repeated
    #[arg(long, value_name = "JOB|none", value_parser = |text: &str| change(text, str::parse::<JobId>))]
    pub after: Vec<Change<JobId>>,

    /// Jobs that it follows image by image; may be repeated
    #[arg(long, value_name = "JOB|none", value_parser = |text: &str| change(text, str::parse::<JobId>))]
    pub after_images: Vec<Change<JobId>>,
}

/// Changes terms.
///
/// # Errors
/// If there is nothing to change, or the coordinator refuses it.
pub async fn run(args: SetArgs, output: Output) -> Result<Exit> {
    let (terms, fields) = changes(&args);
    if fields.is_empty() {
        let message = "nothing to change: give a term such as --priority 20 (see 'seedfarm set --help')";
        return Err(Failure::usage("NO_TERMS", message).into());
    }
    let farm = Farm::connect(&args.of.client).await?;
    let fields = fields.into_iter().map(str::to_owned).collect();
    let request = v1::SetTermsRequest { job_id: args.of.job, terms: Some(terms), fields };
    let job = farm.jobs().set_terms(request).await?.into_inner().job;
    let job = job.context("the coordinator's answer lacks the job")?;
    output.result(&json!({ "job": json::job(&job) }), || text::job::text(&job))?;
    Ok(Exit::Done)
}

/// The terms that change, and their names.
fn changes(args: &SetArgs) -> (v1::Terms, Vec<&'static str>) {
    let mut fields = Vec::new();
    let mut note = |given: bool, field| {
        if given {
            fields.push(field);
        }
    };
    note(args.urgency.is_some(), "urgency");
    note(args.priority.is_some(), "priority");
    note(args.deadline.is_some(), "deadline_ms");
    note(!args.tags.is_empty(), "tags");
    note(args.min_memory.is_some(), "memory_bytes");
    note(args.max_devices.is_some(), "max_devices");
    note(args.budget.is_some(), "budget_ms");
    note(args.max_failures.is_some(), "max_failures");
    note(args.min_image_time.is_some(), "min_image_ms");
    note(!args.after.is_empty(), "after");
    note(!args.after_images.is_empty(), "after_images");
    let terms = v1::Terms {
        tenant: String::new(),
        urgency: args.urgency.map(v1::Urgency::from).unwrap_or_default().into(),
        priority: args.priority.unwrap_or_default(),
        deadline_ms: args.deadline.and_then(|change| change.0),
        tags: listed(&args.tags),
        memory_bytes: args.min_memory.and_then(|change| change.0).map_or(0, |size| size.0),
        max_devices: args.max_devices.and_then(|change| change.0),
        budget_ms: args.budget.and_then(|change| change.0),
        max_failures: args.max_failures.and_then(|change| change.0),
        min_image_ms: args.min_image_time.and_then(|change| change.0),
        after: listed(&args.after),
        after_images: listed(&args.after_images),
    };
    (terms, fields)
}

/// The values that are not `none`.
fn listed<T: ToString>(changes: &[Change<T>]) -> Vec<String> {
    changes.iter().filter_map(|change| change.0.as_ref()).map(T::to_string).collect()
}
