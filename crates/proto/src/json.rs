//! How jobs, images, replays and workers look in JSON, on the command line and over HTTP alike.
//!
//! Seeds are strings, because a JSON number loses bits past 2^53. Times are milliseconds since
//! 1970-01-01 UTC. Documents that came as JSON (recipes, fingerprints) are embedded, not quoted.

use serde_json::{Value, json};

use crate::v1;

/// A job.
pub fn job(job: &v1::Job) -> Value {
    json!({
        "id": job.id,
        "name": job.name,
        "state": state(job.state()),
        "model": job.model,
        "model_digest": job.model_digest,
        "numerics": numerics(job.numerics()),
        "total": job.total,
        "done": job.done,
        "failed": job.failed,
        "seed": job.seed.to_string(),
        "seed_policy": seed_policy(job.seed_policy()),
        "count": job.count,
        "terms": job.terms.as_ref().map(terms),
        "hold": job.hold,
        "device_ms": job.device_ms,
        "created_at_ms": job.created_at_ms,
        "finished_at_ms": job.finished_at_ms,
        "is_replay": job.is_replay,
    })
}

fn terms(terms: &v1::Terms) -> Value {
    json!({
        "tenant": terms.tenant,
        "urgency": terms.urgency().as_str_name().trim_start_matches("URGENCY_").to_lowercase(),
        "priority": terms.priority,
        "deadline_ms": terms.deadline_ms,
        "tags": terms.tags,
        "memory_bytes": terms.memory_bytes,
        "max_devices": terms.max_devices,
        "budget_ms": terms.budget_ms,
        "max_failures": terms.max_failures,
        "min_image_ms": terms.min_image_ms,
        "after": terms.after,
        "after_images": terms.after_images,
    })
}

/// An image that was made.
pub fn image(image: &v1::Image) -> Value {
    json!({
        "id": image.id,
        "seed": image.seed.to_string(),
        "recipe_digest": image.recipe_digest,
        "pixel_digest": image.pixel_digest,
        "artifact_digest": image.artifact_digest,
        "artifact_bytes": image.artifact_bytes,
        "numeric_class": image.numeric_class,
        "worker_id": image.worker_id,
        "attempt": image.attempt,
        "duration_ms": image.duration_ms,
        "created_at_ms": image.created_at_ms,
        "warnings": image.warnings,
    })
}

/// What there is to know of an image.
pub fn warnings(image: &v1::ImageWarnings) -> Value {
    json!({ "id": image.id, "texts": image.texts })
}

/// An image that was given up.
pub fn dead(dead: &v1::DeadImage) -> Value {
    json!({ "id": dead.id, "attempts": dead.attempts, "error": dead.error })
}

/// What somebody changed of a job.
pub fn change(change: &v1::Change) -> Value {
    json!({ "action": change.action, "details": change.details, "created_at_ms": change.created_at_ms })
}

/// One of those who share the farm.
pub fn tenant(tenant: &v1::Tenant) -> Value {
    let policy = tenant.policy.unwrap_or_default();
    json!({
        "name": tenant.name,
        "weight": policy.weight,
        "max_devices": policy.max_devices,
        "max_images": policy.max_images,
        "is_set": tenant.is_set,
        "jobs": tenant.jobs,
        "waiting": tenant.waiting,
        "done": tenant.done,
        "device_ms": tenant.device_ms,
    })
}

/// A limit on devices.
pub fn limit(limit: &v1::Limit) -> Value {
    json!({ "kind": limit.kind, "name": limit.name, "max_devices": limit.max_devices })
}

/// A replay; `outcome` is null until there is a verdict.
pub fn replay(replay: &v1::Replay) -> Value {
    json!({
        "id": replay.id,
        "image_id": replay.image_id,
        "recipe_digest": replay.recipe_digest,
        "expected_pixel_digest": replay.expected_pixel_digest,
        "outcome": replay.outcome.as_ref().map(outcome),
        "created_at_ms": replay.created_at_ms,
        "original_worker_id": replay.original_worker_id,
        "original_fingerprint": embedded(replay.original_fingerprint_json.as_deref()),
        "job_id": replay.job_id,
    })
}

/// What a replay found.
pub fn outcome(outcome: &v1::Outcome) -> Value {
    json!({
        "verdict": outcome.verdict,
        "psnr_db": outcome.psnr_db,
        "max_channel": outcome.max_channel,
        "pixels": outcome.pixels,
        "missing": outcome.missing,
        "replay_pixel_digest": outcome.replay_pixel_digest,
        "replay_artifact_digest": outcome.replay_artifact_digest,
        "replay_worker_id": outcome.replay_worker_id,
        "replay_fingerprint": embedded(outcome.replay_fingerprint_json.as_deref()),
    })
}

/// A worker.
pub fn worker(worker: &v1::Worker) -> Value {
    let device = |device: &v1::WorkerDevice| {
        json!({
            "index": device.index,
            "name": device.name,
            "backend": device.backend,
            "leases": device.leases,
            "resting": device.resting,
        })
    };
    json!({
        "id": worker.id,
        "name": worker.name,
        "version": worker.version,
        "connected": worker.connected,
        "draining": worker.draining,
        "devices": worker.devices.iter().map(device).collect::<Vec<_>>(),
        "last_seen_ms": worker.last_seen_ms,
        "images": worker.images,
        "tags": worker.tags,
        "refusals": worker.refusals.iter().map(refusal).collect::<Vec<_>>(),
    })
}

fn refusal(refusal: &v1::RefusalCount) -> Value {
    json!({ "reason": refusal.reason, "count": refusal.count })
}

/// What happened during one attempt.
pub fn attempt_log(log: &v1::AttemptLog) -> Value {
    json!({
        "job_id": log.job_id,
        "lo": log.lo,
        "hi": log.hi,
        "attempt": log.attempt,
        "worker_id": log.worker_id,
        "device": log.device,
        "outcome": log.outcome,
        "text": log.text,
        "created_at_ms": log.created_at_ms,
    })
}

/// A model; its manifest is embedded.
pub fn model(model: &v1::Model) -> Value {
    json!({
        "name": model.name,
        "digest": model.digest,
        "workers": model.workers,
        "manifest": embedded(Some(&model.manifest_json)),
    })
}

/// A LoRA, textual inversion or ControlNet.
pub fn adapter(adapter: &v1::Adapter) -> Value {
    json!({
        "kind": adapter.kind,
        "name": adapter.name,
        "digest": adapter.digest,
        "family": adapter.family,
        "bytes": adapter.bytes,
        "workers": adapter.workers,
    })
}

/// A model or an adapter that the farm hands out.
pub fn package(package: &v1::ListedPackage) -> Value {
    json!({
        "kind": package.kind,
        "name": package.name,
        "digest": package.digest,
        "bytes": package.bytes,
        "files": package.files,
        "worker_ids": package.worker_ids,
        "fetching_worker_ids": package.fetching_worker_ids,
    })
}

/// The farm.
pub fn status(status: &v1::GetStatusResponse) -> Value {
    json!({
        "version": status.version,
        "epoch": status.epoch,
        "database": status.database,
        "workers": status.workers,
        "devices": status.devices,
        "active_jobs": status.active_jobs,
        "leases": status.leases,
        "images": status.images,
        "role": role(status.role()),
        "coordinators": status.coordinators.iter().map(coordinator).collect::<Value>(),
    })
}

/// Why a job waits, or a worker has nothing to do.
pub fn explanation(answer: &v1::ExplainResponse) -> Value {
    match &answer.outlook {
        Some(v1::explain_response::Outlook::Job(job)) => json!({ "job": job_outlook(job) }),
        Some(v1::explain_response::Outlook::Worker(worker)) => json!({ "worker": worker_outlook(worker) }),
        None => Value::Null,
    }
}

fn job_outlook(job: &v1::JobOutlook) -> Value {
    let share = job.share.as_ref().map(|share| {
        json!({
            "tenant": share.tenant,
            "weight": share.weight,
            "ahead_ms": share.ahead_ms,
            "competing": share.competing,
            "before": share.before,
            "devices": share.devices,
        })
    });
    json!({
        "id": job.job_id,
        "state": state(job.state()),
        "waiting": job.waiting,
        "leased": job.leased,
        "devices": job.devices,
        "before": job.before,
        "at_risk": job.at_risk,
        "share": share,
        "reasons": reasons(&job.reasons),
    })
}

fn worker_outlook(worker: &v1::WorkerOutlook) -> Value {
    let device = |device: &v1::DeviceOutlook| {
        json!({
            "index": device.index,
            "name": device.name,
            "leases": device.leases,
            "credit": device.credit,
            "next_job_id": device.next_job_id,
            "reasons": reasons(&device.reasons),
        })
    };
    json!({
        "id": worker.worker_id,
        "connected": worker.connected,
        "devices": worker.devices.iter().map(device).collect::<Vec<_>>(),
        "reasons": reasons(&worker.reasons),
    })
}

fn reasons(reasons: &[v1::Reason]) -> Vec<Value> {
    let reason =
        |reason: &v1::Reason| json!({ "code": reason.code, "text": reason.text, "count": reason.count });
    reasons.iter().map(reason).collect()
}

fn coordinator(coordinator: &v1::Coordinator) -> Value {
    json!({
        "id": coordinator.id,
        "address": coordinator.address,
        "role": role(coordinator.role()),
        "epoch": coordinator.epoch,
        "seen_ms": coordinator.seen_ms,
    })
}

/// What a coordinator is, in a word.
pub fn role(role: v1::CoordinatorRole) -> &'static str {
    match role {
        v1::CoordinatorRole::Active => "active",
        v1::CoordinatorRole::Standby => "standby",
        v1::CoordinatorRole::Unspecified => "unspecified",
    }
}

/// A document that came as text; text that is no JSON stays text.
pub fn embedded(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| text.into()))
}

/// The state's name, as core writes it.
pub fn state(state: v1::JobState) -> &'static str {
    seedfarm_core::JobState::try_from(state).map_or("unspecified", seedfarm_core::JobState::as_str)
}

fn numerics(numerics: v1::Numerics) -> &'static str {
    seedfarm_core::Numerics::try_from(numerics).map_or("unspecified", seedfarm_core::Numerics::as_str)
}

fn seed_policy(policy: v1::SeedPolicy) -> &'static str {
    seedfarm_core::SeedPolicy::try_from(policy).map_or("unspecified", seedfarm_core::SeedPolicy::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_past_2_to_the_53_keeps_its_bits() {
        let job = job(&v1::Job { seed: u64::MAX, state: v1::JobState::Active.into(), ..v1::Job::default() });
        assert_eq!(job["seed"], "18446744073709551615");
        assert_eq!(job["state"], "active");
    }

    #[test]
    fn a_recipe_is_embedded_and_not_quoted() {
        assert_eq!(embedded(Some("{\"a\":1}"))["a"], 1);
        assert_eq!(embedded(None), Value::Null);
    }
}
