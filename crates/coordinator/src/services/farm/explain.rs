//! Why a job waits, or a worker has nothing to do: what placement tells, as sentences with counts and the way out.

use std::collections::HashMap;

use seedfarm_core::placement::{DeviceReason, JobOutlook, JobReason, Lack, Limit, Share};
use seedfarm_core::terms::{Hold, LimitKey};
use seedfarm_core::{AdapterDigest, JobId, WorkerId};
use seedfarm_proto::{error, v1};
use tonic::Status;

use crate::board::DeviceView;
use crate::farm::{Farm, now_ms};
use crate::services::read;
use crate::{faults, wire};

/// Names of adapters, to speak of them.
type Names = HashMap<AdapterDigest, String>;

pub(super) async fn explain(farm: &Farm, id: &str) -> Result<v1::ExplainResponse, Status> {
    let adapters = farm.store.adapters().await.map_err(faults::of_store)?;
    let names: Names = adapters.into_iter().map(|adapter| (adapter.digest, adapter.name)).collect();
    let outlook = match (id.parse::<JobId>(), id.parse::<WorkerId>()) {
        (Ok(job), _) => v1::explain_response::Outlook::Job(of_job(farm, job, &names).await?),
        (_, Ok(worker)) => v1::explain_response::Outlook::Worker(of_worker(farm, worker, &names).await?),
        _ => return Err(read::<JobId>(id).err().unwrap_or_else(|| error::missing("a job or a worker"))),
    };
    Ok(v1::ExplainResponse { outlook: Some(outlook) })
}

async fn of_job(farm: &Farm, job: JobId, names: &Names) -> Result<v1::JobOutlook, Status> {
    let now = now_ms();
    let there = farm.board().why_job(job, now).map(|(card, outlook)| (wire::job(&card.row), outlook));
    if let Some((row, outlook)) = there {
        return Ok(job_outlook(&row, outlook, names, now));
    }
    let Some(row) = farm.store.job(job).await.map_err(faults::of_store)? else {
        return Err(faults::not_found(
            "UNKNOWN_JOB",
            format!("{job} is unknown: list jobs to see those that are"),
        ));
    };
    let row = wire::job(&row);
    let over = reason("final", 0, format!("{job} is over: nothing of it waits"));
    Ok(v1::JobOutlook { job_id: row.id, state: row.state, reasons: vec![over], ..v1::JobOutlook::default() })
}

fn job_outlook(row: &v1::Job, outlook: JobOutlook, names: &Names, now_ms: i64) -> v1::JobOutlook {
    let words = |why: &JobReason| job_reason(why, &row.id, &outlook.share, names, now_ms);
    v1::JobOutlook {
        job_id: row.id.clone(),
        state: row.state,
        waiting: outlook.waiting,
        leased: outlook.leased,
        devices: outlook.devices,
        before: outlook.before as u64,
        at_risk: outlook.at_risk,
        reasons: outlook.reasons.iter().map(words).collect(),
        share: Some(share(&outlook.share)),
    }
}

fn share(share: &Share) -> v1::TenantShare {
    v1::TenantShare {
        tenant: share.tenant.to_string(),
        weight: share.weight,
        ahead_ms: share.virtual_ms - share.least_ms,
        competing: count(share.competing),
        before: count(share.before),
        devices: share.devices,
    }
}

async fn of_worker(farm: &Farm, worker: WorkerId, names: &Names) -> Result<v1::WorkerOutlook, Status> {
    let views = farm.board().why_worker(worker, now_ms());
    if let Some(views) = views {
        let devices = views.into_iter().map(|view| device_outlook(view, names)).collect();
        return Ok(v1::WorkerOutlook {
            worker_id: worker.to_string(),
            connected: true,
            devices,
            reasons: Vec::new(),
        });
    }
    let known = farm.store.workers().await.map_err(faults::of_store)?;
    if known.iter().all(|row| row.id != worker) {
        let message = format!("{worker} is unknown: list workers to see those that were ever here");
        return Err(faults::not_found("UNKNOWN_WORKER", message));
    }
    let away = reason("away", 0, "it is not connected: start it, or look into its log".to_owned());
    Ok(v1::WorkerOutlook {
        worker_id: worker.to_string(),
        reasons: vec![away],
        ..v1::WorkerOutlook::default()
    })
}

fn device_outlook(view: DeviceView, names: &Names) -> v1::DeviceOutlook {
    let mut reasons = Vec::new();
    if view.credit == 0 {
        reasons.push(no_credit(view.leases));
    }
    reasons.extend(view.outlook.reasons.iter().map(|(why, jobs)| device_reason(why, *jobs, names)));
    v1::DeviceOutlook {
        index: view.index,
        name: view.name,
        leases: count(view.leases),
        credit: view.credit,
        next_job_id: view.outlook.next.map(|job| job.to_string()),
        reasons,
    }
}

fn no_credit(leases: usize) -> v1::Reason {
    if leases > 0 {
        return reason(
            "busy",
            leases as u64,
            format!("it is busy with {} and asks for no more", of(leases, "lease")),
        );
    }
    let text =
        "it asks for nothing: its owner keeps it back, or it drains or is busy with something of its own";
    reason("no_credit", 0, text.to_owned())
}

fn job_reason(why: &JobReason, id: &str, share: &Share, names: &Names, now_ms: i64) -> v1::Reason {
    match why {
        JobReason::Paused(hold) => reason("paused", 0, paused(*hold, id)),
        JobReason::AllLeased => {
            reason("all_leased", 0, "all that is not settled is being rendered: nothing waits".to_owned())
        }
        JobReason::Waits { job, by_image, cancelled } => waits(*job, *by_image, *cancelled),
        JobReason::Deferred { images, until_ms } => {
            let seconds = until_ms.saturating_sub(now_ms).max(0) / 1000;
            let text = format!("{images} images failed lately: the first are tried again in {seconds} s");
            reason("deferred", *images, text)
        }
        JobReason::AtLimit(limit) => limited(limit, 0),
        JobReason::NobodyThere => {
            reason("nobody", 0, "no worker is connected: start one with `seedfarm worker`".to_owned())
        }
        JobReason::Lacking { lack, devices } => {
            let (code, what, way_out) = lacking(lack, names);
            reason(code, *devices as u64, format!("{} {what}: {way_out}", of(*devices, "device")))
        }
        JobReason::Draining { devices } => {
            let text = format!("{} of workers that take no more work", of(*devices, "device"));
            reason("draining", *devices as u64, text)
        }
        JobReason::Avoided { devices } => {
            let text =
                format!("{} passed over, as it failed there and others are there", of(*devices, "device is"));
            reason("avoided", *devices as u64, text)
        }
        JobReason::LoadedElsewhere { devices } => {
            let text = format!(
                "{} could render it and keep to what they have loaded; interactive work waits 30 s for \
                 that at most, other work 10 min",
                of(*devices, "device")
            );
            reason("loaded_elsewhere", *devices as u64, text)
        }
        JobReason::Able { devices } => {
            let text = format!(
                "{} could render it at once: busy now, or with work of the {} tenants that had less device time",
                of(*devices, "device"),
                share.before
            );
            reason("able", *devices as u64, text)
        }
    }
}

fn paused(hold: Option<Hold>, id: &str) -> String {
    let why = match hold {
        Some(Hold::Budget) => "it has taken the device time of its budget: raise the budget, then",
        Some(Hold::Failures) => "more of its images were given up than it allows: look at them, then",
        Some(Hold::Person) | None => "somebody paused it:",
    };
    format!("{why} `seedfarm resume {id}` lets it go on")
}

fn waits(other: JobId, by_image: bool, cancelled: bool) -> v1::Reason {
    if cancelled {
        let text = format!(
            "it waits for {other}, which was cancelled, and so for ever: change what it waits for, or cancel it"
        );
        return reason("waits_for_cancelled", 0, text);
    }
    let what = if by_image { "the same images of" } else { "the end of" };
    reason("waits", 0, format!("it waits for {what} {other}: `seedfarm why {other}` says how that stands"))
}

fn limited(limit: &Limit, jobs: usize) -> v1::Reason {
    let (code, what) = match limit {
        Limit::Job(most) => ("job_limit", format!("{most} of its own")),
        Limit::Tenant(most) => ("tenant_limit", format!("{most} of its tenant")),
        Limit::Other(LimitKey::Model(name), most) => ("model_limit", format!("{most} of the model '{name}'")),
        Limit::Other(LimitKey::Licence(name), most) => {
            ("licence_limit", format!("{most} of the licence '{name}'"))
        }
    };
    let who = if jobs == 0 { String::new() } else { format!("{} held: ", of(jobs, "job is")) };
    reason(
        code,
        jobs as u64,
        format!("{who}the limit on devices, {what}, is reached: raise it, or wait for one"),
    )
}

/// The code, what is missing, and the way out.
fn lacking(lack: &Lack, names: &Names) -> (&'static str, String, &'static str) {
    match lack {
        Lack::Model => ("lacks_model", "without the model".to_owned(), "give it to a worker"),
        Lack::Numerics => {
            ("lacks_numerics", "without its class of numerics".to_owned(), "start another worker")
        }
        Lack::Adapters(digests) => {
            let name =
                |digest: &AdapterDigest| names.get(digest).cloned().unwrap_or_else(|| digest.to_string());
            let listed: Vec<String> = digests.iter().map(name).collect();
            (
                "lacks_adapters",
                format!("without {}", listed.join(", ")),
                "put the files into the worker's folders",
            )
        }
        Lack::Tags(tags) => {
            let listed: Vec<&str> = tags.iter().map(|tag| tag.as_str()).collect();
            (
                "lacks_tags",
                format!("without the tags {}", listed.join(", ")),
                "tag a worker, or ask for fewer",
            )
        }
        Lack::Memory => (
            "lacks_memory",
            "with too little memory, or none told".to_owned(),
            "ask for less, or a larger device",
        ),
        Lack::Pixels => {
            ("refuses_pixels", "whose owner allows no pictures so large".to_owned(), "ask for smaller ones")
        }
        Lack::Steps => ("refuses_steps", "whose owner allows fewer steps".to_owned(), "ask for fewer"),
        Lack::Refused(feature) => (
            "refuses_feature",
            format!("whose owner refuses: {}", feature.as_str()),
            "wait for another worker",
        ),
    }
}

fn device_reason(why: &DeviceReason, jobs: usize, names: &Names) -> v1::Reason {
    let counted = |code, text: &str| reason(code, jobs as u64, format!("{} {text}", of(jobs, "job")));
    match why {
        DeviceReason::Draining => {
            reason("draining", 0, "its worker drains: it takes no more work".to_owned())
        }
        DeviceReason::NoJobs => reason("no_jobs", 0, "there is no unfinished job: submit one".to_owned()),
        DeviceReason::Lacking(lack) => {
            let (code, what, way_out) = lacking(lack, names);
            counted(code, &format!("not for a device {what}: {way_out}"))
        }
        DeviceReason::Paused => counted("paused", "paused: `seedfarm why JOB` says why"),
        DeviceReason::AllLeased => counted("all_leased", "of which all is being rendered by others already"),
        DeviceReason::Waits => counted("waits", "waiting for other jobs: `seedfarm why JOB` says for which"),
        DeviceReason::Deferred => {
            counted("deferred", "of which images failed lately: they are tried again soon")
        }
        DeviceReason::AtLimit(limit) => limited(limit, jobs),
        DeviceReason::Avoided => counted("avoided", "that failed on this worker, while others may have them"),
        DeviceReason::LeftToOthers => counted(
            "left_to_others",
            "left to devices that have loaded what they need and will be through sooner",
        ),
    }
}

fn reason(code: &str, count: u64, text: String) -> v1::Reason {
    v1::Reason { code: code.to_owned(), text, count }
}

/// `1 device`, `2 devices`; a verb behind the noun goes along.
fn of(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix(" is")) {
        (1, _) => format!("1 {noun}"),
        (_, Some(noun)) => format!("{number} {noun}s are"),
        _ => format!("{number} {noun}s"),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
