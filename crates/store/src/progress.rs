//! How far jobs and the farm are.

use std::collections::BTreeMap;

use seedfarm_core::JobId;
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
        UPDATE job_progress p SET done = p.done + b.done, failed = p.failed + b.failed
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS b (job, done, failed)
        JOIN jobs j ON j.id = b.job
        WHERE p.job_id = b.job
        RETURNING p.job_id, p.done, p.failed, j.total",
        &bumps.keys().map(JobId::as_uuid).collect::<Vec<_>>(),
        &bumps.values().map(|bump| bump.done).collect::<Vec<_>>(),
        &bumps.values().map(|bump| bump.failed).collect::<Vec<_>>()
    );
    let rows = update.fetch_all(connection).await?.into_iter().map(|row| {
        Ok(Progress {
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
        UPDATE jobs SET state = 'finished', finished_at = now() FROM done WHERE jobs.id = done.id
        RETURNING jobs.id",
        &done
    );
    let finished = finish.fetch_all(connection).await?;
    for progress in progress {
        progress.finished = finished.contains(&progress.job.as_uuid());
    }
    Ok(())
}
