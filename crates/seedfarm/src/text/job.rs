//! Jobs as people read them.

use std::time::Duration;

use seedfarm_core::owner::ByteSize;
use seedfarm_proto::{json, v1};

use crate::human;
use crate::table::{Table, facts};

/// Whether nothing more will happen to the job.
pub fn is_final(job: &v1::Job) -> bool {
    matches!(job.state(), v1::JobState::Cancelled | v1::JobState::Finished)
}

/// A name to call a job by where there is little room.
pub fn label(job: &v1::Job) -> &str {
    if job.name.is_empty() { job.id.get(..12).unwrap_or(&job.id) } else { &job.name }
}

/// All that is known of a job.
pub fn text(job: &v1::Job) -> String {
    let document = json::job(job);
    let policy = document["seed_policy"].as_str().unwrap_or_default();
    let terms = job.terms.clone().unwrap_or_default();
    facts(&[
        ("job", job.id.clone()),
        ("name", job.name.clone()),
        ("state", state(job)),
        ("images", format!("{} of {} done, {} given up", job.done, job.total, job.failed)),
        ("model", format!("{} ({})", job.model, job.model_digest)),
        ("seed", format!("{}, {policy}, {} for each prompt", job.seed, job.count)),
        ("numerics", document["numerics"].as_str().unwrap_or_default().to_owned()),
        ("tenant", terms.tenant.clone()),
        ("terms", described(&terms)),
        ("device time", human::span(Duration::from_millis(job.device_ms))),
        ("created", human::ago(job.created_at_ms)),
    ])
}

fn state(job: &v1::Job) -> String {
    let state = json::state(job.state());
    match job.hold.as_deref() {
        Some("budget") => format!("{state}: its budget is used up"),
        Some("failures") => format!("{state}: too many images were given up"),
        _ => state.to_owned(),
    }
}

/// Terms that are not ordinary, and the priority.
fn described(terms: &v1::Terms) -> String {
    let span = |ms: u64| human::span(Duration::from_millis(ms));
    let interactive = terms.urgency() == v1::Urgency::Interactive;
    let parts = [
        interactive.then(|| "interactive".to_owned()),
        Some(format!("priority {}", terms.priority)),
        terms.deadline_ms.map(|at| format!("due {}", human::ahead(at))),
        (!terms.tags.is_empty()).then(|| format!("tags {}", terms.tags.join(", "))),
        (terms.memory_bytes > 0).then(|| format!("at least {} of memory", ByteSize(terms.memory_bytes))),
        terms.max_devices.map(|most| format!("at most {most} devices")),
        terms.budget_ms.map(|ms| format!("budget {}", span(ms))),
        terms.max_failures.map(|most| format!("at most {most} given up")),
        terms.min_image_ms.map(|ms| format!("at least {ms} ms an image")),
        (!terms.after.is_empty()).then(|| format!("after {}", terms.after.join(", "))),
        (!terms.after_images.is_empty())
            .then(|| format!("image by image after {}", terms.after_images.join(", "))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What people changed of it, the newest first.
pub fn changes(changes: &[v1::Change]) -> String {
    let line = |change: &v1::Change| {
        format!("{}: {} {}", human::ago(change.created_at_ms), change.action, change.details)
            .trim_end()
            .to_owned()
    };
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Images that were given up, with their errors.
pub fn dead(dead: &[v1::DeadImage]) -> String {
    let line = |image: &v1::DeadImage| {
        format!("given up after {} attempts: {}: {}", image.attempts, image.id, image.error)
    };
    dead.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Most images with warnings that are shown one by one.
const MAX_WARNED: usize = 20;

/// What there is to know of images that were made.
pub fn warnings(warnings: &[v1::ImageWarnings]) -> String {
    let line = |image: &v1::ImageWarnings| format!("warning: {}: {}", image.id, image.texts.join("; "));
    let mut lines: Vec<String> = warnings.iter().take(MAX_WARNED).map(line).collect();
    if warnings.len() > MAX_WARNED {
        lines.push(format!("warnings of {} more images: see --json", warnings.len() - MAX_WARNED));
    }
    lines.join("\n")
}

/// Many jobs, a row each.
pub fn table(jobs: &[v1::Job]) -> String {
    let mut table = Table::new(["JOB", "STATE", "DONE", "OF", "FAILED", "MODEL", "CREATED", "NAME"]);
    for job in jobs {
        table.row([
            job.id.clone(),
            json::state(job.state()).to_owned(),
            job.done.to_string(),
            job.total.to_string(),
            job.failed.to_string(),
            job.model.clone(),
            human::ago(job.created_at_ms),
            job.name.clone(),
        ]);
    }
    table.render()
}
