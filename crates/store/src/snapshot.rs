//! What the coordinator rebuilds its board from when it takes over.

use std::time::Duration;

use seedfarm_core::completion::Fence;
use seedfarm_core::placement::Retry;
use seedfarm_core::{Attempt, Epoch, ImageRange, JobId, LeaseId, WorkerId};
use sqlx::PgConnection;

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::jobs::{JobRow, select_jobs};
use crate::value::{range, small, worker_ids};

/// A range to be leased again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRow {
    /// The job.
    pub job: JobId,
    /// The range, and under which row it is stored.
    pub retry: Retry,
}

/// A lease that is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// What its worker must show.
    pub fence: Fence,
    /// The job.
    pub job: JobId,
    /// The images.
    pub range: ImageRange,
    /// Who holds it.
    pub worker: WorkerId,
    /// On which of its devices.
    pub device: u32,
    /// Workers that the range passes over if it comes back.
    pub avoid: Vec<WorkerId>,
    /// How long it has been out.
    pub age: Duration,
}

/// All unfinished work at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Jobs that are active or paused, and final ones with leases still out; oldest first.
    pub jobs: Vec<JobRow>,
    /// Ranges of active and paused jobs to be leased again.
    pub ranges: Vec<RangeRow>,
    /// Leases that are out.
    pub leases: Vec<LeaseRow>,
}

impl Store {
    /// Reads all unfinished work, as one moment had it.
    pub async fn snapshot(&self, epoch: Epoch) -> Result<Snapshot> {
        let mut transaction = self.begin_reading().await?;
        if reigning(&mut transaction).await? != epoch {
            return Err(StoreError::Deposed { epoch });
        }
        let snapshot = Snapshot {
            jobs: unfinished_jobs(&mut transaction).await?,
            ranges: ranges(&mut transaction).await?,
            leases: leases(&mut transaction).await?,
        };
        transaction.commit().await?;
        Ok(snapshot)
    }
}

async fn reigning(connection: &mut PgConnection) -> Result<Epoch> {
    let epoch = sqlx::query_scalar!(
        r#"-- reigning
        SELECT max(epoch) AS "epoch!" FROM reign"#
    );
    Ok(Epoch(epoch.fetch_one(connection).await?))
}

async fn unfinished_jobs(connection: &mut PgConnection) -> Result<Vec<JobRow>> {
    let rows = select_jobs!(
        "unfinished_jobs",
        "WHERE j.state IN ('active', 'paused') OR j.id IN (SELECT job_id FROM leases)
            ORDER BY j.created_at, j.id"
    );
    rows.fetch_all(connection).await?.into_iter().map(JobRow::try_from).collect()
}

async fn ranges(connection: &mut PgConnection) -> Result<Vec<RangeRow>> {
    let rows = sqlx::query!(
        r#"-- ranges
        SELECT r.id, r.job_id, r.lo, r.hi, r.spent, r.avoid,
            (extract(epoch FROM r.not_before) * 1000)::bigint AS "not_before_ms!"
        FROM ranges r JOIN jobs j ON j.id = r.job_id
        WHERE j.state IN ('active', 'paused') ORDER BY r.job_id, r.lo"#
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let retry = Retry {
            row: row.id,
            range: range(row.lo, row.hi)?,
            spent: row.spent,
            not_before_ms: row.not_before_ms,
            avoid: worker_ids(row.avoid),
        };
        Ok(RangeRow { job: JobId::from_uuid(row.job_id), retry })
    });
    rows.collect()
}

async fn leases(connection: &mut PgConnection) -> Result<Vec<LeaseRow>> {
    let rows = sqlx::query!(
        r#"-- leases
        SELECT id, job_id, lo, hi, attempt, epoch, worker_id, device, avoid,
            greatest(0, extract(epoch FROM clock_timestamp() - granted_at) * 1000)::bigint AS "age_ms!"
        FROM leases ORDER BY id"#
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        Ok(LeaseRow {
            fence: Fence { lease: LeaseId(row.id), attempt: Attempt(row.attempt), epoch: Epoch(row.epoch) },
            job: JobId::from_uuid(row.job_id),
            range: range(row.lo, row.hi)?,
            worker: WorkerId::from_uuid(row.worker_id),
            device: small(row.device)?,
            avoid: worker_ids(row.avoid),
            age: Duration::from_millis(row.age_ms.unsigned_abs()),
        })
    });
    rows.collect()
}
