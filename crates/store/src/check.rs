//! The invariants of the stored state.

mod census;
mod rules;

use std::fmt;

use seedfarm_core::{ImageId, JobId, WorkerId};
use sqlx::PgConnection;

pub use census::Census;

use crate::database::Store;
use crate::error::Result;
use crate::value::natural;

/// Most findings of one kind that are listed.
const MAX_FINDINGS: i64 = 1000;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A job's counters are not the numbers of its rows.
    Counters {
        /// The job.
        job: JobId,
        /// Counted as done, and stored in results.
        done: (u64, u64),
        /// Counted as failed, and stored in dead.
        failed: (u64, u64),
    },
    /// A worker's tally is not the number of its results.
    Tally {
        /// The worker.
        worker: WorkerId,
        /// Counted.
        counted: u64,
        /// Stored in results.
        stored: u64,
    },
    /// Images that are in none of results, dead, ranges, leases and the part above the cursor.
    Missing {
        /// The job.
        job: JobId,
        /// First image, and the one after the last.
        images: (u64, u64),
    },
    /// Images that are in several of these.
    Twice {
        /// The job.
        job: JobId,
        /// First image, and the one after the last.
        images: (u64, u64),
    },
    /// A second lease without a first.
    LoneTwin {
        /// The job.
        job: JobId,
        /// First image, and the one after the last.
        images: (u64, u64),
    },
    /// A result that names something that is not there.
    Orphan {
        /// The image.
        image: ImageId,
        /// What it names.
        names: String,
    },
    /// A job whose state does not go with its counters, or not with its hold.
    State {
        /// The job.
        job: JobId,
        /// Its state.
        state: String,
    },
    /// A job counts less device time than its results took, in milliseconds.
    JobTime {
        /// The job.
        job: JobId,
        /// Counted.
        counted: u64,
        /// Taken by results.
        stored: u64,
    },
    /// A worker's device time is not that of its results, in milliseconds.
    WorkerTime {
        /// The worker.
        worker: WorkerId,
        /// Counted.
        counted: u64,
        /// Taken by results.
        stored: u64,
    },
    /// A lease of an epoch that has not begun.
    Epoch {
        /// The job.
        job: JobId,
        /// First image, and the one after the last.
        images: (u64, u64),
        /// The lease's epoch.
        epoch: i64,
    },
    /// A job waits for one that is not there.
    Dependency {
        /// The job.
        job: JobId,
        /// What it waits for.
        on: JobId,
    },
}

/// What a check looked at, and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// How much was looked at.
    pub census: Census,
    /// What must not be; empty when all is well.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counters { job, done, failed } => write!(
                f,
                "{job} counts {} done and {} failed, but holds {} results and {} dead images",
                done.0, failed.0, done.1, failed.1
            ),
            Self::Tally { worker, counted, stored } => {
                write!(f, "{worker} is credited with {counted} images, but made {stored}")
            }
            Self::Missing { job, images: (lo, hi) } => {
                write!(f, "{job} has lost images {lo} to {}", hi - 1)
            }
            Self::Twice { job, images: (lo, hi) } => {
                write!(f, "{job} holds images {lo} to {} in more than one place", hi - 1)
            }
            Self::LoneTwin { job, images: (lo, hi) } => {
                write!(f, "{job} has a second lease of images {lo} to {} without a first", hi - 1)
            }
            Self::Orphan { image, names } => write!(f, "{image} names a {names} that is not there"),
            Self::State { job, state } => {
                write!(f, "{job} is {state}, which its counters or its hold contradict")
            }
            Self::JobTime { job, counted, stored } => {
                write!(f, "{job} counts {counted} ms of device time, but its results took {stored} ms")
            }
            Self::WorkerTime { worker, counted, stored } => {
                write!(f, "{worker} counts {counted} ms of device time, but its results took {stored} ms")
            }
            Self::Epoch { job, images: (lo, hi), epoch } => {
                write!(f, "{job} leases images {lo} to {} in epoch {epoch}, which has not begun", hi - 1)
            }
            Self::Dependency { job, on } => write!(f, "{job} waits for {on}, which is not there"),
        }
    }
}

/// What [`audit`] finds; empty when all is well.
pub async fn check(store: &Store) -> Result<Vec<Finding>> {
    Ok(audit(store).await?.findings)
}

/// Holds the stored state against its invariants, as one moment had it. It reads every result, so it takes
/// a while on a large farm.
pub async fn audit(store: &Store) -> Result<Audit> {
    let mut transaction = store.begin_reading().await?;
    let mut findings = wrong_counters(&mut transaction).await?;
    findings.extend(wrong_tallies(&mut transaction).await?);
    findings.extend(wrong_cover(&mut transaction).await?);
    findings.extend(lone_twins(&mut transaction).await?);
    findings.extend(orphans(&mut transaction).await?);
    findings.extend(wrong_states(&mut transaction).await?);
    findings.extend(rules::wrong_job_times(&mut transaction).await?);
    findings.extend(rules::wrong_worker_times(&mut transaction).await?);
    findings.extend(rules::wrong_epochs(&mut transaction).await?);
    findings.extend(rules::lost_dependencies(&mut transaction).await?);
    let census = census::census(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Audit { census, findings })
}

async fn wrong_counters(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- wrong_counters
        SELECT p.job_id, p.done, p.failed, coalesce(r.n, 0) AS "results!", coalesce(d.n, 0) AS "dead!"
        FROM job_progress p
        LEFT JOIN (SELECT job_id, count(*) AS n FROM results GROUP BY job_id) r ON r.job_id = p.job_id
        LEFT JOIN (SELECT job_id, count(*) AS n FROM dead GROUP BY job_id) d ON d.job_id = p.job_id
        WHERE p.done <> coalesce(r.n, 0) OR p.failed <> coalesce(d.n, 0)
        ORDER BY p.job_id LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        Ok(Finding::Counters {
            job: JobId::from_uuid(row.job_id),
            done: (natural(row.done)?, natural(row.results)?),
            failed: (natural(row.failed)?, natural(row.dead)?),
        })
    });
    rows.collect()
}

async fn wrong_tallies(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- wrong_tallies
        SELECT worker_id AS "worker_id!", coalesce(t.images, 0) AS "counted!", coalesce(r.n, 0) AS "stored!"
        FROM worker_tallies t
        FULL JOIN (SELECT worker_id, count(*) AS n FROM results GROUP BY worker_id) r USING (worker_id)
        WHERE coalesce(t.images, 0) <> coalesce(r.n, 0)
        ORDER BY worker_id LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        Ok(Finding::Tally {
            worker: WorkerId::from_uuid(row.worker_id),
            counted: natural(row.counted)?,
            stored: natural(row.stored)?,
        })
    });
    rows.collect()
}

/// Lays everything that holds images of a job end to end: each part must begin where those before it
/// end. The part above the cursor is there even when it is empty, and so marks the job's end. A twin holds no
/// images, and a lease that has or had one may hold images that are settled.
async fn wrong_cover(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- wrong_cover
        WITH settled AS (
            SELECT job_id, idx FROM results UNION ALL SELECT job_id, idx FROM dead
        ), parts AS (
            SELECT job_id, idx AS lo, idx + 1 AS hi FROM settled s WHERE NOT EXISTS (
                SELECT FROM leases l
                WHERE l.twinned AND l.job_id = s.job_id AND s.idx >= l.lo AND s.idx < l.hi
            )
            UNION ALL SELECT job_id, lo, hi FROM ranges
            UNION ALL SELECT job_id, lo, hi FROM leases WHERE NOT twin
            UNION ALL SELECT j.id, c.next, j.total FROM jobs j JOIN job_cursors c ON c.job_id = j.id
        ), laid AS (
            SELECT job_id, lo, hi, coalesce(max(hi) OVER (
                PARTITION BY job_id ORDER BY lo, hi ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), 0) AS reached FROM parts
        )
        SELECT job_id AS "job_id!", lo AS "lo!", hi AS "hi!", reached AS "reached!" FROM laid
        WHERE lo <> reached ORDER BY job_id, lo LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let job = JobId::from_uuid(row.job_id);
        let (lo, hi, reached) = (natural(row.lo)?, natural(row.hi)?, natural(row.reached)?);
        Ok(if lo > reached {
            Finding::Missing { job, images: (reached, lo) }
        } else {
            Finding::Twice { job, images: (lo, hi.min(reached).max(lo + 1)) }
        })
    });
    rows.collect()
}

async fn lone_twins(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        "-- lone_twins
        SELECT t.job_id, t.lo, t.hi FROM leases t WHERE t.twin AND NOT EXISTS (
            SELECT FROM leases f
            WHERE f.twinned AND f.job_id = t.job_id AND f.lo = t.lo AND f.hi = t.hi
        )
        ORDER BY t.job_id, t.lo LIMIT $1",
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let images = (natural(row.lo)?, natural(row.hi)?);
        Ok(Finding::LoneTwin { job: JobId::from_uuid(row.job_id), images })
    });
    rows.collect()
}

async fn orphans(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        r#"-- orphans
        SELECT r.job_id, r.idx, CASE WHEN j.id IS NULL THEN 'job' WHEN t.digest IS NULL THEN 'template'
            WHEN f.digest IS NULL THEN 'fingerprint' WHEN w.id IS NULL THEN 'worker'
            ELSE 'line' END AS "names!"
        FROM results r
        LEFT JOIN jobs j ON j.id = r.job_id
        LEFT JOIN templates t ON t.digest = r.template
        LEFT JOIN fingerprints f ON f.digest = r.fingerprint
        LEFT JOIN workers w ON w.id = r.worker_id
        LEFT JOIN job_lines l ON l.job_id = r.job_id AND l.line = r.idx / j.count AND l.template = r.template
        WHERE j.id IS NULL OR t.digest IS NULL OR f.digest IS NULL OR w.id IS NULL OR l.line IS NULL
        ORDER BY r.job_id, r.idx LIMIT $1"#,
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let image = ImageId { job: JobId::from_uuid(row.job_id), index: natural(row.idx)? };
        Ok(Finding::Orphan { image, names: row.names })
    });
    rows.collect()
}

async fn wrong_states(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    let rows = sqlx::query!(
        "-- wrong_states
        SELECT j.id, j.state FROM jobs j JOIN job_progress p ON p.job_id = j.id
        WHERE (j.hold IS NOT NULL) <> (j.state = 'paused')
            OR (j.state <> 'cancelled' AND (j.state = 'finished') <> (p.done + p.failed = j.total))
        ORDER BY j.id LIMIT $1",
        MAX_FINDINGS
    );
    let rows = rows.fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| Finding::State { job: JobId::from_uuid(row.id), state: row.state })
        .collect())
}
