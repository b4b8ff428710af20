//! How far jobs and the farm are.

use std::collections::BTreeMap;

use seedfarm_core::JobId;
use seedfarm_core::terms::{Caps, Hold};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;
use crate::value::natural;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// Images with a result.
    pub done: u64,
    /// Images given up.
    pub failed: u64,
    /// Images asked for.
    pub total: u64,
    /// Whether this batch finished the job.
    pub finished: bool,
    /// The cap that this batch reached, so that the job is paused.
    pub held: Option<Hold>,
}

/// What the farm has done since the beginning, and has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Images stored.
    pub images: u64,
    /// Jobs that are active.
    pub active_jobs: u64,
    /// Leases that are out.
    pub leases: u64,
    /// Divergences that were found.
    pub divergences: u64,
}

impl Store {
    /// The farm in numbers.
    pub async fn totals(&self) -> Result<Totals> {
        let totals = sqlx::query!(
            r#"-- totals
            SELECT (SELECT coalesce(sum(images), 0)::bigint FROM worker_tallies) AS "images!",
                (SELECT count(*) FROM jobs WHERE state = 'active') AS "active_jobs!",
                (SELECT count(*) FROM leases) AS "leases!",
                (SELECT count(*) FROM divergences) AS "divergences!""#
        );
        let totals = totals.fetch_one(&self.pool).await?;
        Ok(Totals {
            images: natural(totals.images)?,
            active_jobs: natural(totals.active_jobs)?,
            leases: natural(totals.leases)?,
            divergences: natural(totals.divergences)?,
        })
    }
}

/// What to add to a job's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bump {
    pub(crate) done: i64,
    pub(crate) failed: i64,
    pub(crate) device_ms: i64,
}

/// Adds to counters, for the completions lane.
pub(crate) async fn bump_progress(
    connection: &mut PgConnection,
    bumps: &BTreeMap<JobId, Bump>,
) -> Result<Vec<Progress>> {
    if bumps.is_empty() {
        return Ok(Vec::new());
    }
    let update = sqlx::query!(
        "-- bump_progress
        UPDATE job_progress p SET done = p.done + b.done, failed = p.failed + b.failed,
            device_ms = p.device_ms + b.device_ms
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS b (job, done, failed, device_ms)
        JOIN jobs j ON j.id = b.job
        WHERE p.job_id = b.job
        RETURNING p.job_id, p.done, p.failed, p.device_ms, j.total, j.budget_ms, j.max_failures",
        &bumps.keys().map(JobId::as_uuid).collect::<Vec<_>>(),
        &bumps.values().map(|bump| bump.done).collect::<Vec<_>>(),
        &bumps.values().map(|bump| bump.failed).collect::<Vec<_>>(),
        &bumps.values().map(|bump| bump.device_ms).collect::<Vec<_>>()
    );
    let rows = update.fetch_all(connection).await?.into_iter().map(|row| {
        let caps = Caps {
            budget_ms: row.budget_ms.map(natural).transpose()?,
            max_failures: row.max_failures.map(natural).transpose()?,
            min_image_ms: None,
        };
        Ok(Progress {
            held: caps.reached(natural(row.device_ms)?, natural(row.failed)?),
            job: JobId::from_uuid(row.job_id),
            done: natural(row.done)?,
            failed: natural(row.failed)?,
            total: natural(row.total)?,
            finished: false,
        })
    });
    rows.collect()
}

/// Finishes the jobs of which every image is settled, and marks them in `progress`. A cancelled job
/// stays cancelled.
pub(crate) async fn finish_jobs(connection: &mut PgConnection, progress: &mut [Progress]) -> Result<()> {
    let settled = |progress: &&Progress| progress.done + progress.failed == progress.total;
    let done: Vec<Uuid> = progress.iter().filter(settled).map(|progress| progress.job.as_uuid()).collect();
    if done.is_empty() {
        return Ok(());
    }
    let finish = sqlx::query_scalar!(
        "-- finish_jobs
        WITH done AS MATERIALIZED (
            SELECT id FROM jobs WHERE id = ANY($1) AND state IN ('active', 'paused')
            ORDER BY id FOR NO KEY UPDATE
        )
        UPDATE jobs SET state = 'finished', hold = NULL, finished_at = now() FROM done WHERE jobs.id = done.id
        RETURNING jobs.id",
        &done
    );
    let finished = finish.fetch_all(connection).await?;
    for progress in progress {
        progress.finished = finished.contains(&progress.job.as_uuid());
    }
    Ok(())
}

/// Pauses the active jobs that reached a cap and are not finished; `held` stays only where that was done.
pub(crate) async fn hold_jobs(connection: &mut PgConnection, progress: &mut [Progress]) -> Result<()> {
    let (jobs, holds): (Vec<Uuid>, Vec<&str>) = progress
        .iter()
        .filter(|progress| !progress.finished)
        .filter_map(|progress| Some((progress.job.as_uuid(), progress.held?.as_str())))
        .unzip();
    let held = if jobs.is_empty() { Vec::new() } else { hold(connection, &jobs, &holds).await? };
    for progress in progress {
        progress.held = progress.held.filter(|_| held.contains(&progress.job.as_uuid()));
    }
    Ok(())
}

async fn hold(connection: &mut PgConnection, jobs: &[Uuid], holds: &[&str]) -> Result<Vec<Uuid>> {
    let hold = sqlx::query_scalar!(
        "-- hold
        WITH reached AS MATERIALIZED (
            SELECT jobs.id, h.hold FROM jobs JOIN unnest($1::uuid[], $2::text[]) AS h (id, hold) ON h.id = jobs.id
            WHERE state = 'active' ORDER BY jobs.id FOR NO KEY UPDATE OF jobs
        )
        UPDATE jobs SET state = 'paused', hold = reached.hold FROM reached WHERE jobs.id = reached.id
        RETURNING jobs.id",
        jobs,
        holds as _
    );
    Ok(hold.fetch_all(connection).await?)
}
