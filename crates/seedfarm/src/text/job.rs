//! Jobs as people read them.

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
    facts(&[
        ("job", job.id.clone()),
        ("name", job.name.clone()),
        ("state", json::state(job.state()).to_owned()),
        ("images", format!("{} of {} done, {} given up", job.done, job.total, job.failed)),
        ("model", format!("{} ({})", job.model, job.model_digest)),
        ("seed", format!("{}, {policy}, {} for each prompt", job.seed, job.count)),
        ("numerics", document["numerics"].as_str().unwrap_or_default().to_owned()),
        ("priority", job.priority.to_string()),
        ("created", human::ago(job.created_at_ms)),
    ])
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
