//! Why a job waits or a worker idles, as people read it.

use std::time::Duration;

use seedfarm_proto::v1::explain_response::Outlook;
use seedfarm_proto::{json, v1};

use crate::human;

/// A line on how it stands, then a line a reason.
pub fn text(answer: &v1::ExplainResponse) -> String {
    match &answer.outlook {
        Some(Outlook::Job(job)) => of_job(job),
        Some(Outlook::Worker(worker)) => of_worker(worker),
        None => String::new(),
    }
}

fn of_job(job: &v1::JobOutlook) -> String {
    let mut lines = vec![format!(
        "{} is {}: {} images wait, {} are being rendered on {} devices",
        job.job_id,
        json::state(job.state()),
        job.waiting,
        job.leased,
        job.devices
    )];
    if job.at_risk {
        lines.push("  it goes first: its deadline would be missed otherwise".to_owned());
    }
    if let Some(share) = &job.share {
        lines.push(format!(
            "  tenant {}: {} of {} tenants with work had less device time for their weight, by {}; it has {} devices",
            share.tenant,
            share.before,
            share.competing,
            human::span(Duration::from_secs_f64((share.ahead_ms / 1000.0).clamp(0.0, 1e9))),
            share.devices
        ));
        lines.push(format!("  {} jobs of the tenant go before it", job.before));
    }
    lines.extend(reasons(&job.reasons));
    lines.join("\n")
}

fn of_worker(worker: &v1::WorkerOutlook) -> String {
    let state = if worker.connected { "connected" } else { "away" };
    let mut lines = vec![format!("{} is {state}", worker.worker_id)];
    lines.extend(reasons(&worker.reasons));
    for device in &worker.devices {
        lines.push(format!(
            "device {} ({}): holds {} leases, asks for {} more",
            device.index, device.name, device.leases, device.credit
        ));
        lines.extend(device.next_job_id.iter().map(|job| format!("  - next would be images of {job}")));
        lines.extend(reasons(&device.reasons));
    }
    lines.join("\n")
}

fn reasons(reasons: &[v1::Reason]) -> impl Iterator<Item = String> + '_ {
    reasons.iter().map(|reason| format!("  - {}", reason.text))
}
