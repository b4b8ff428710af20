//! Rows of the store as the wire shows them.

use seedfarm_core::{Fingerprint, FingerprintDigest, JobId, canonical};
use seedfarm_proto::{convert, v1};
use seedfarm_store::{
    ControlRow, DeadImage, DeviceLimit, ImageRow, ImageWarnings, JobRow, ReplayRow, TenantRow,
};
use tonic::Status;

use crate::farm::Farm;
use crate::faults;

/// A job.
pub(crate) fn job(row: &JobRow) -> v1::Job {
    v1::Job {
        id: row.id.to_string(),
        name: row.name.clone(),
        state: v1::JobState::from(row.state).into(),
        model: row.model_name.clone(),
        model_digest: row.model_digest.to_string(),
        numerics: v1::Numerics::from(row.numerics).into(),
        total: row.total,
        done: row.done,
        failed: row.failed,
        seed: row.seeds.seed,
        seed_policy: v1::SeedPolicy::from(row.seeds.policy).into(),
        count: row.seeds.count,
        terms: Some(row.terms.clone().into()),
        hold: row.hold.map(|hold| hold.as_str().to_owned()),
        device_ms: row.device_ms,
        created_at_ms: row.created_at_ms,
        finished_at_ms: row.finished_at_ms,
        is_replay: row.is_replay,
    }
}

/// Images of one job, in order of index, with their warnings.
pub(crate) async fn images(farm: &Farm, job: JobId, rows: &[ImageRow]) -> Result<Vec<v1::Image>, Status> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
    let warnings = farm.store.warnings_in(job, first.id.index..=last.id.index).await;
    let mut warnings = warnings.map_err(faults::of_store)?;
    let image = |row: &ImageRow| image(row, warnings.remove(&row.id.index).unwrap_or_default());
    Ok(rows.iter().map(image).collect())
}

fn image(row: &ImageRow, warnings: Vec<String>) -> v1::Image {
    v1::Image {
        warnings,
        id: row.id.to_string(),
        seed: row.seed,
        recipe_digest: row.recipe.to_string(),
        pixel_digest: row.pixels.to_string(),
        artifact_digest: row.artifact.to_string(),
        artifact_bytes: row.artifact_bytes,
        numeric_class: row.class.to_string(),
        worker_id: row.worker.to_string(),
        attempt: row.attempt.0,
        duration_ms: row.duration_ms,
        created_at_ms: row.created_at_ms,
    }
}

/// What there is to know of an image.
pub(crate) fn warnings(row: ImageWarnings) -> v1::ImageWarnings {
    v1::ImageWarnings { id: row.id.to_string(), texts: row.texts }
}

/// An image that was given up.
pub(crate) fn dead(row: DeadImage) -> v1::DeadImage {
    v1::DeadImage { id: row.id.to_string(), attempts: row.attempts.0, error: row.error }
}

/// What somebody changed of a job.
pub(crate) fn change(row: ControlRow) -> v1::Change {
    v1::Change { action: row.action, details: row.details, created_at_ms: row.created_at_ms }
}

/// A tenant.
pub(crate) fn tenant(row: TenantRow) -> v1::Tenant {
    v1::Tenant {
        name: row.name.to_string(),
        policy: Some(v1::TenantPolicy {
            weight: row.policy.weight,
            max_devices: row.policy.max_devices,
            max_images: row.policy.max_images,
        }),
        is_set: row.is_set,
        jobs: row.jobs,
        waiting: row.waiting,
        done: row.done,
        device_ms: row.device_ms,
    }
}

/// A limit on devices.
pub(crate) fn limit(limit: DeviceLimit) -> v1::Limit {
    v1::Limit {
        kind: limit.key.kind().to_owned(),
        name: limit.key.name().to_owned(),
        max_devices: limit.max_devices,
    }
}

/// A replay.
pub(crate) fn replay(row: &ReplayRow) -> v1::Replay {
    v1::Replay {
        id: row.id.to_string(),
        image_id: row.original.map(|image| image.to_string()),
        recipe_digest: row.recipe.to_string(),
        expected_pixel_digest: row.expected_pixels.to_string(),
        outcome: outcome(row),
        created_at_ms: row.created_at_ms,
        original_worker_id: row.original_worker.map(|worker| worker.to_string()),
        original_fingerprint_json: row.original_fingerprint.as_ref().map(json),
        job_id: row.job.map(|job| job.to_string()),
    }
}

fn outcome(row: &ReplayRow) -> Option<v1::Outcome> {
    let outcome = convert::outcome(row.verdict.as_ref()?);
    let Some(rendered) = &row.rendered else { return Some(outcome) };
    Some(v1::Outcome {
        replay_pixel_digest: Some(rendered.pixels.to_string()),
        replay_artifact_digest: Some(rendered.artifact.to_string()),
        replay_worker_id: Some(rendered.worker.to_string()),
        replay_fingerprint_json: Some(json(&rendered.fingerprint)),
        ..outcome
    })
}

fn json(fingerprint: &Fingerprint) -> String {
    canonical::to_string(fingerprint)
}

/// A stored fingerprint as JSON.
pub(crate) async fn fingerprint(farm: &Farm, digest: FingerprintDigest) -> Result<Option<String>, Status> {
    let fingerprint = farm.store.fingerprint(&digest).await.map_err(faults::of_store)?;
    Ok(fingerprint.as_ref().map(json))
}
