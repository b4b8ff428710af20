//! What the coordinator rebuilds its board from when it takes over.

use std::collections::HashMap;
use std::time::Duration;

use seedfarm_core::completion::Fence;
use seedfarm_core::placement::Retry;
use seedfarm_core::{Attempt, Epoch, ImageRange, JobId, LeaseId, WorkerId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::context::{JobContext, contexts};
use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::jobs::{JobRow, job, select_jobs};
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
    /// Whether it is the second lease of its images.
    pub twin: bool,
    /// Whether it has or had a second lease beside it.
    pub twinned: bool,
}

/// All unfinished work at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Jobs that are active or paused, and final ones with leases still out; oldest first.
    pub jobs: Vec<JobRow>,
    /// What placement must know of these jobs besides.
    pub contexts: HashMap<JobId, JobContext>,
    /// Ranges of active and paused jobs to be leased again.
    pub ranges: Vec<RangeRow>,
    /// Leases that are out.
    pub leases: Vec<LeaseRow>,
}

/// What waits of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    /// The job.
    pub job: JobRow,
    /// What its row does not say.
    pub context: JobContext,
    /// Its ranges to be leased again.
    pub ranges: Vec<RangeRow>,
}

impl Store {
    /// Reads what waits of one job, as one moment had it; `None` where the job is over or not there.
    pub async fn unfinished(&self, id: JobId) -> Result<Option<Unfinished>> {
        let mut transaction = self.begin_reading().await?;
        let row = job(&mut transaction, id).await?;
        let Some(job) = row.filter(|job| !job.state.is_final()) else { return Ok(None) };
        let ranges = ranges_of_job(&mut transaction, id).await?;
        let context = contexts(&mut transaction, &[id]).await?.remove(&id).unwrap_or_default();
        transaction.commit().await?;
        Ok(Some(Unfinished { job, context, ranges }))
    }

    /// Reads all unfinished work, as one moment had it.
    pub async fn snapshot(&self, epoch: Epoch) -> Result<Snapshot> {
        let mut transaction = self.begin_reading().await?;
        if reigning(&mut transaction).await? != epoch {
            return Err(StoreError::Deposed { epoch });
        }
        let jobs = unfinished_jobs(&mut transaction).await?;
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let snapshot = Snapshot {
            contexts: contexts(&mut transaction, &ids).await?,
            jobs,
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
    let rows = sqlx::query_as!(
        RawRange,
        r#"-- ranges
        SELECT r.id, r.job_id, r.lo, r.hi, r.spent, r.avoid,
            (extract(epoch FROM r.not_before) * 1000)::bigint AS "not_before_ms!"
        FROM ranges r JOIN jobs j ON j.id = r.job_id
        WHERE j.state IN ('active', 'paused') ORDER BY r.job_id, r.lo"#
    );
    rows.fetch_all(connection).await?.into_iter().map(TryInto::try_into).collect()
}

/// The ranges of one job to be leased again; none of a job that is over.
pub(crate) async fn ranges_of_job(connection: &mut PgConnection, id: JobId) -> Result<Vec<RangeRow>> {
    let rows = sqlx::query_as!(
        RawRange,
        r#"-- ranges_of_job
        SELECT r.id, r.job_id, r.lo, r.hi, r.spent, r.avoid,
            (extract(epoch FROM r.not_before) * 1000)::bigint AS "not_before_ms!"
        FROM ranges r JOIN jobs j ON j.id = r.job_id
        WHERE r.job_id = $1 AND j.state IN ('active', 'paused') ORDER BY r.lo"#,
        id.as_uuid()
    );
    rows.fetch_all(connection).await?.into_iter().map(TryInto::try_into).collect()
}

/// A range as its columns hold it.
struct RawRange {
    id: i64,
    job_id: Uuid,
    lo: i64,
    hi: i64,
    spent: i32,
    avoid: Vec<Uuid>,
    not_before_ms: i64,
}

impl TryFrom<RawRange> for RangeRow {
    type Error = StoreError;
    fn try_from(raw: RawRange) -> Result<Self> {
        let retry = Retry {
            row: raw.id,
            range: range(raw.lo, raw.hi)?,
            spent: raw.spent,
            not_before_ms: raw.not_before_ms,
            avoid: worker_ids(raw.avoid),
        };
        Ok(Self { job: JobId::from_uuid(raw.job_id), retry })
    }
}

async fn leases(connection: &mut PgConnection) -> Result<Vec<LeaseRow>> {
    let rows = sqlx::query!(
        r#"-- leases
        SELECT id, job_id, lo, hi, attempt, epoch, worker_id, device, avoid, twin, twinned,
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
            twin: row.twin,
            twinned: row.twinned,
        })
    });
    rows.collect()
}
