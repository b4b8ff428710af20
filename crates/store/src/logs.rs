//! What workers tell of their attempts. For people: nothing depends on it, and it is written beside the lanes.

use seedfarm_core::{Attempt, ImageRange, JobId, LeaseId, WorkerId, limits};

use crate::database::Store;
use crate::error::Result;
use crate::value::{index, range, saturate, small, storable};

/// Hours that logs of attempts that ended well are kept.
const WELL_KEPT_HOURS: f64 = 24.0;
/// Most logs of attempts that ended well.
const MOST_WELL: i64 = 10_000;
/// Hours that logs of attempts that failed are kept.
const FAILED_KEPT_HOURS: f64 = 30.0 * 24.0;
/// Most rows that one statement removes.
const MOST_REMOVED: i64 = 5000;

/// What happened during one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptLog {
    /// The lease, of which there is one log.
    pub lease: LeaseId,
    /// The job.
    pub job: JobId,
    /// The lease's images.
    pub range: ImageRange,
    /// Which attempt it was.
    pub attempt: Attempt,
    /// Who made it.
    pub worker: WorkerId,
    /// On which of its devices.
    pub device: u32,
    /// `completed`, or the name of the class of the failure.
    pub outcome: String,
    /// Lines.
    pub text: String,
}

/// A stored log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Grows with time.
    pub id: i64,
    /// The log.
    pub log: AttemptLog,
    /// When it was stored, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
}

/// Which logs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// One job's.
    pub job: Option<JobId>,
    /// One image's.
    pub image: Option<u64>,
    /// One worker's.
    pub worker: Option<WorkerId>,
    /// Only of attempts that failed.
    pub failed: bool,
    /// Only those with a smaller id.
    pub before: Option<i64>,
}

impl Store {
    /// Stores logs; of a lease that has one already, the first stays.
    pub async fn put_logs(&self, logs: &[AttemptLog]) -> Result<()> {
        macro_rules! column {
            ($log:ident => $value:expr) => {
                logs.iter().map(|$log| $value).collect::<Vec<_>>()
            };
        }
        let insert = sqlx::query!(
            "-- put_logs
            INSERT INTO attempt_logs (lease_id, job_id, lo, hi, attempt, worker_id, device, outcome, text)
            SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::int[], $6::uuid[],
                $7::int[], $8::text[], $9::text[])
            ON CONFLICT (lease_id) DO NOTHING",
            &column!(log => log.lease.0),
            &column!(log => log.job.as_uuid()),
            &column!(log => index(log.range.lo())),
            &column!(log => index(log.range.hi())),
            &column!(log => log.attempt.0),
            &column!(log => log.worker.as_uuid()),
            &column!(log => log.device.cast_signed()),
            &column!(log => log.outcome.clone()),
            &column!(log => storable(&log.text, limits::MAX_LOG_BYTES))
        );
        insert.execute(&self.pool).await?;
        Ok(())
    }

    /// At most `limit` logs, newest first.
    pub async fn logs(&self, filter: &LogFilter, limit: u32) -> Result<Vec<LogRow>> {
        let rows = sqlx::query!(
            r#"-- logs
            SELECT id, lease_id, job_id, lo, hi, attempt, worker_id, device, outcome, text,
                (extract(epoch FROM created_at) * 1000)::bigint AS "created_at_ms!"
            FROM attempt_logs
            WHERE ($1::uuid IS NULL OR job_id = $1) AND ($2::bigint IS NULL OR (lo <= $2 AND hi > $2))
                AND ($3::uuid IS NULL OR worker_id = $3)
                AND (NOT $4::boolean OR outcome NOT IN ('completed', 'handed_back'))
                AND ($5::bigint IS NULL OR id < $5)
            ORDER BY id DESC LIMIT $6"#,
            filter.job.map(|job| job.as_uuid()) as _,
            filter.image.map(saturate) as _,
            filter.worker.map(|worker| worker.as_uuid()) as _,
            filter.failed,
            filter.before as _,
            i64::from(limit)
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let log = AttemptLog {
                lease: LeaseId(row.lease_id),
                job: JobId::from_uuid(row.job_id),
                range: range(row.lo, row.hi)?,
                attempt: Attempt(row.attempt),
                worker: WorkerId::from_uuid(row.worker_id),
                device: small(row.device)?,
                outcome: row.outcome,
                text: row.text,
            };
            Ok(LogRow { id: row.id, log, created_at_ms: row.created_at_ms })
        });
        rows.collect()
    }

    /// Removes some of the logs whose time is over, and says whether there may be more of them.
    pub async fn remove_old_logs(&self) -> Result<bool> {
        let well = self.remove_old_well_logs().await?;
        let failed = self.remove_old_failed_logs().await?;
        Ok(well.max(failed) >= MOST_REMOVED.unsigned_abs())
    }

    async fn remove_old_well_logs(&self) -> Result<u64> {
        let remove = sqlx::query!(
            "-- remove_old_well_logs
            DELETE FROM attempt_logs WHERE id IN (
                SELECT id FROM attempt_logs WHERE outcome IN ('completed', 'handed_back')
                    AND (created_at < now() - $1::float8 * interval '1 hour' OR id <= (
                        SELECT id FROM attempt_logs WHERE outcome IN ('completed', 'handed_back')
                        ORDER BY id DESC OFFSET $2 LIMIT 1))
                ORDER BY id LIMIT $3)",
            WELL_KEPT_HOURS,
            MOST_WELL,
            MOST_REMOVED
        );
        Ok(remove.execute(&self.pool).await?.rows_affected())
    }

    async fn remove_old_failed_logs(&self) -> Result<u64> {
        let remove = sqlx::query!(
            "-- remove_old_failed_logs
            DELETE FROM attempt_logs WHERE id IN (
                SELECT id FROM attempt_logs WHERE outcome NOT IN ('completed', 'handed_back')
                    AND created_at < now() - $1::float8 * interval '1 hour'
                ORDER BY id LIMIT $2)",
            FAILED_KEPT_HOURS,
            MOST_REMOVED
        );
        Ok(remove.execute(&self.pool).await?.rows_affected())
    }
}
