//! Jobs: submitted whole or not at all, read, paused and cancelled.

use std::collections::BTreeSet;
use std::ops::Range;

use seedfarm_core::plan::{JobPlan, PlannedLine, SeedPlan};
use seedfarm_core::{
    AdapterDigest, Epoch, ImageRange, JobId, JobState, ModelDigest, ModelManifest, Numerics, SeedPolicy,
    TemplateDigest,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::models::put_model;
use crate::reign::Lane;
use crate::templates::insert_templates;
use crate::value::{index, natural, saturate, small};

/// Prompt lines that one statement stores: few enough that digesting them holds up nobody.
const LINES_A_STATEMENT: usize = 1000;

/// What a submission says besides its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The job's id.
    pub id: JobId,
    /// Submitting the same key again answers the first job.
    pub idempotency_key: String,
    /// A name for people; may be empty.
    pub name: String,
    /// The model that the plan was made for.
    pub manifest: ModelManifest,
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// Higher goes first.
    pub priority: i32,
    /// Whether this is the one-image job of a replay.
    pub is_replay: bool,
}

/// One job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its name for people.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// Whether this is the one-image job of a replay.
    pub is_replay: bool,
    /// The model's name at submission.
    pub model_name: String,
    /// The model.
    pub model_digest: ModelDigest,
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// Adapters that a worker must have for it, each once, in ascending order.
    pub needs: Vec<AdapterDigest>,
    /// Images asked for.
    pub total: u64,
    /// Images below this have been leased at least once.
    pub cursor: u64,
    /// How images get their seeds.
    pub seeds: SeedPlan,
    /// Higher goes first.
    pub priority: i32,
    /// When it was submitted, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
    /// When it became final, in milliseconds since 1970-01-01 UTC.
    pub finished_at_ms: Option<i64>,
    /// Images with a result.
    pub done: u64,
    /// Images given up.
    pub failed: u64,
}

impl JobRow {
    /// Images that were never leased.
    pub fn fresh(&self) -> Option<ImageRange> {
        ImageRange::new(self.cursor, self.total)
    }
}

/// A submission's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Inserted {
    /// The job: a new one, or the first that was submitted under the key.
    pub job: JobRow,
    /// Whether the key was known, so that nothing was stored.
    pub repeated: bool,
}

/// One prompt line of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRow {
    /// Its number, from 0.
    pub line: u64,
    /// What its images share.
    pub template: TemplateDigest,
    /// Its own seed.
    pub seed: Option<u64>,
}

impl Store {
    /// Stores a job with its lines, templates and model: all of it or nothing.
    pub async fn insert_job(&self, epoch: Epoch, job: &NewJob, plan: &JobPlan) -> Result<Inserted> {
        let mut lane = self.begin_lane(Lane::Submissions, epoch).await?;
        let inserted = insert_job(lane.connection(), job, plan).await?;
        if !inserted.repeated {
            lane.commit().await?;
        }
        Ok(inserted)
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<JobRow>> {
        let mut connection = self.pool.acquire().await?;
        job(&mut connection, id).await
    }

    /// At most `limit` jobs, newest first, with or without those of replays.
    pub async fn jobs(&self, limit: u32, with_replays: bool) -> Result<Vec<JobRow>> {
        let rows = select_jobs!(
            "jobs",
            "WHERE $2 OR NOT j.is_replay ORDER BY j.created_at DESC, j.id LIMIT $1",
            i64::from(limit),
            with_replays
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(JobRow::try_from).collect()
    }

    /// Changes a job's state, if it is the one expected; says whether it was.
    pub async fn set_state(&self, epoch: Epoch, id: JobId, from: JobState, to: JobState) -> Result<bool> {
        let mut lane = self.begin_lane(Lane::Control, epoch).await?;
        let update = sqlx::query!(
            "-- set_state
            UPDATE jobs SET state = $3, finished_at = CASE WHEN $4 THEN now() END
            WHERE id = $1 AND state = $2",
            id.as_uuid(),
            from.as_str(),
            to.as_str(),
            to.is_final()
        );
        let changed = update.execute(lane.connection()).await?.rows_affected() == 1;
        lane.commit().await?;
        Ok(changed)
    }

    /// The prompt lines `lines` (from 0) of a job, in order.
    pub async fn lines(&self, id: JobId, lines: Range<u64>) -> Result<Vec<LineRow>> {
        let rows = sqlx::query!(
            r#"-- lines
            SELECT line, template AS "template: [u8; 32]", seed FROM job_lines
            WHERE job_id = $1 AND line >= $2::bigint AND line < $3::bigint ORDER BY line"#,
            id.as_uuid(),
            saturate(lines.start),
            saturate(lines.end)
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(LineRow {
                line: u64::from(small(row.line)?),
                template: TemplateDigest::from_bytes(row.template),
                seed: row.seed.map(i64::cast_unsigned),
            })
        });
        rows.collect()
    }
}

/// A job as its columns hold it.
pub(crate) struct RawJob {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) is_replay: bool,
    pub(crate) model_name: String,
    pub(crate) model_digest: [u8; 32],
    pub(crate) numerics: String,
    pub(crate) needs: Vec<Vec<u8>>,
    pub(crate) total: i64,
    pub(crate) cursor: i64,
    pub(crate) seed: i64,
    pub(crate) seed_policy: String,
    pub(crate) count: i32,
    pub(crate) priority: i32,
    pub(crate) created_at_ms: i64,
    pub(crate) finished_at_ms: Option<i64>,
    pub(crate) done: i64,
    pub(crate) failed: i64,
}

impl TryFrom<RawJob> for JobRow {
    type Error = StoreError;
    fn try_from(raw: RawJob) -> Result<Self> {
        let state = JobState::from_name(&raw.state);
        Ok(Self {
            id: JobId::from_uuid(raw.id),
            name: raw.name,
            state: state.ok_or_else(|| StoreError::unreadable("the state", &raw.state))?,
            is_replay: raw.is_replay,
            model_name: raw.model_name,
            model_digest: ModelDigest::from_bytes(raw.model_digest),
            numerics: Numerics::from_name(&raw.numerics)?,
            needs: raw.needs.iter().map(|digest| adapter(digest)).collect::<Result<_>>()?,
            total: natural(raw.total)?,
            cursor: natural(raw.cursor)?,
            seeds: SeedPlan {
                seed: raw.seed.cast_unsigned(),
                policy: SeedPolicy::from_name(&raw.seed_policy)?,
                count: small(raw.count)?,
            },
            priority: raw.priority,
            created_at_ms: raw.created_at_ms,
            finished_at_ms: raw.finished_at_ms,
            done: natural(raw.done)?,
            failed: natural(raw.failed)?,
        })
    }
}

fn adapter(bytes: &[u8]) -> Result<AdapterDigest> {
    let digest = <[u8; 32]>::try_from(bytes).map(AdapterDigest::from_bytes);
    digest.map_err(|_| StoreError::unreadable("the digest of an adapter", format!("{bytes:02x?}")))
}

/// A query for jobs `j`: the statement's name, its tail from `WHERE` on, and its arguments.
macro_rules! select_jobs {
    ($name:literal, $tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            $crate::jobs::RawJob,
            "-- " + $name + r#"
            SELECT j.id, j.name, j.state, j.is_replay, j.model_name,
                j.model_digest AS "model_digest: [u8; 32]", j.numerics, j.needs, j.total, c.next AS cursor,
                j.seed, j.seed_policy, j.count, j.priority,
                (extract(epoch FROM j.created_at) * 1000)::bigint AS "created_at_ms!",
                (extract(epoch FROM j.finished_at) * 1000)::bigint AS finished_at_ms,
                p.done, p.failed
            FROM jobs j JOIN job_cursors c ON c.job_id = j.id JOIN job_progress p ON p.job_id = j.id "#
                + $tail
            $(, $argument)*
        )
    };
}
pub(crate) use select_jobs;

async fn job(connection: &mut PgConnection, id: JobId) -> Result<Option<JobRow>> {
    let row = select_jobs!("job", "WHERE j.id = $1", id.as_uuid());
    row.fetch_optional(connection).await?.map(JobRow::try_from).transpose()
}

async fn job_by_key(connection: &mut PgConnection, key: &str) -> Result<Option<JobRow>> {
    let row = select_jobs!("job_by_key", "WHERE j.idempotency_key = $1", key);
    row.fetch_optional(connection).await?.map(JobRow::try_from).transpose()
}

/// Stores a job within a transaction of the submissions lane, which the caller commits.
pub(crate) async fn insert_job(
    connection: &mut PgConnection,
    new: &NewJob,
    plan: &JobPlan,
) -> Result<Inserted> {
    if let Some(job) = job_by_key(connection, &new.idempotency_key).await? {
        return Ok(Inserted { job, repeated: true });
    }
    put_model(connection, &new.manifest).await?;
    insert_job_row(connection, new, plan).await?;
    for (number, lines) in plan.lines.chunks(LINES_A_STATEMENT).enumerate() {
        insert_lines(connection, new.id, number * LINES_A_STATEMENT, lines).await?;
    }
    let job = job(connection, new.id).await?.ok_or_else(|| StoreError::unreadable("the job", new.id))?;
    Ok(Inserted { job, repeated: false })
}

/// The adapters of all lines, each once, in ascending order.
fn needs(plan: &JobPlan) -> BTreeSet<AdapterDigest> {
    plan.lines.iter().flat_map(|line| line.template.adapters()).collect()
}

async fn insert_job_row(connection: &mut PgConnection, new: &NewJob, plan: &JobPlan) -> Result<()> {
    let model = new.manifest.digest();
    let needs = needs(plan);
    let needs: Vec<&[u8]> = needs.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    let insert = sqlx::query!(
        "-- insert_job_row
        WITH job AS (
            INSERT INTO jobs (id, idempotency_key, name, state, is_replay, model_name, model_digest,
                numerics, total, seed, seed_policy, count, priority, needs)
            VALUES ($1, $2, $3, 'active', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            RETURNING id
        ), progress AS (
            INSERT INTO job_progress (job_id) SELECT id FROM job
        )
        INSERT INTO job_cursors (job_id) SELECT id FROM job",
        new.id.as_uuid(),
        new.idempotency_key,
        new.name,
        new.is_replay,
        new.manifest.name,
        model.as_bytes(),
        new.numerics.as_str(),
        index(plan.total),
        plan.seeds.seed.cast_signed(),
        plan.seeds.policy.as_str(),
        plan.seeds.count.cast_signed(),
        new.priority,
        needs.as_slice() as _
    );
    insert.execute(connection).await?;
    Ok(())
}

async fn insert_lines(
    connection: &mut PgConnection,
    job: JobId,
    first: usize,
    lines: &[PlannedLine],
) -> Result<()> {
    let templates = insert_templates(connection, lines.iter().map(|line| &line.template)).await?;
    let templates: Vec<&[u8]> = templates.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    let seeds: Vec<Option<i64>> = lines.iter().map(|line| line.seed.map(u64::cast_signed)).collect();
    let insert = sqlx::query!(
        "-- insert_lines
        INSERT INTO job_lines (job_id, line, template, seed)
        SELECT $1, $2 + number::int - 1, template, seed
        FROM unnest($3::bytea[], $4::bigint[]) WITH ORDINALITY AS l (template, seed, number)",
        job.as_uuid(),
        i32::try_from(first).expect("limits::MAX_PROMPTS_A_JOB bounds the lines of a plan"),
        templates.as_slice() as _,
        seeds.as_slice() as &[Option<i64>]
    );
    insert.execute(connection).await?;
    Ok(())
}
