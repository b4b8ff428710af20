//! What else must hold: device time, the epochs of leases, and the jobs that jobs wait for.

use seedfarm_core::{JobId, WorkerId};
use sqlx::PgConnection;

use super::{Finding, MAX_FINDINGS};
use crate::error::Result;
use crate::value::natural;

/// A job's device time covers at least what its results took; attempts that failed add to it.
pub(super) async fn wrong_job_times(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- wrong_job_times
        SELECT p.job_id, p.device_ms, r.ms AS "stored!"
        FROM job_progress p
        JOIN (SELECT job_id, sum(duration_ms)::bigint AS ms FROM results GROUP BY job_id) r USING (job_id)
        WHERE p.device_ms < r.ms ORDER BY p.job_id LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let (counted, stored) = (natural(row.device_ms)?, natural(row.stored)?);
        Ok(Finding::JobTime { job: JobId::from_uuid(row.job_id), counted, stored })
    });
    rows.collect()
}

/// A worker's device time is that of its results.
pub(super) async fn wrong_worker_times(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- wrong_worker_times
        SELECT worker_id AS "worker_id!", coalesce(t.device_ms, 0) AS "counted!", coalesce(r.ms, 0) AS "stored!"
        FROM worker_tallies t
        FULL JOIN (
            SELECT worker_id, sum(duration_ms)::bigint AS ms FROM results GROUP BY worker_id
        ) r USING (worker_id)
        WHERE coalesce(t.device_ms, 0) <> coalesce(r.ms, 0)
        ORDER BY worker_id LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let (counted, stored) = (natural(row.counted)?, natural(row.stored)?);
        Ok(Finding::WorkerTime { worker: WorkerId::from_uuid(row.worker_id), counted, stored })
    });
    rows.collect()
}

/// No lease is of an epoch that has not begun.
pub(super) async fn wrong_epochs(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        "-- wrong_epochs
        SELECT l.job_id, l.lo, l.hi, l.epoch FROM leases l JOIN reign r ON r.lane = 'claims'
        WHERE l.epoch > r.epoch ORDER BY l.job_id, l.lo LIMIT $1",
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let images = (natural(row.lo)?, natural(row.hi)?);
        Ok(Finding::Epoch { job: JobId::from_uuid(row.job_id), images, epoch: row.epoch })
    });
    rows.collect()
}

/// A job waits only for jobs that are there.
pub(super) async fn lost_dependencies(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- lost_dependencies
        SELECT j.id, d.id AS "on!" FROM jobs j CROSS JOIN unnest(j.after || j.after_images) AS d (id)
        WHERE NOT EXISTS (SELECT FROM jobs other WHERE other.id = d.id)
        ORDER BY j.id, d.id LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?;
    let finding = |job, on| Finding::Dependency { job: JobId::from_uuid(job), on: JobId::from_uuid(on) };
    Ok(rows.into_iter().map(|row| finding(row.id, row.on)).collect())
}
