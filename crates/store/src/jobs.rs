//! Jobs: submitted whole or not at all, read, paused and cancelled.

mod row;

use std::collections::BTreeSet;
use std::ops::Range;

use seedfarm_core::placement::Demand;
use seedfarm_core::plan::{JobPlan, PlannedLine};
use seedfarm_core::terms::{Hold, Tag};
use seedfarm_core::{
    AdapterDigest, Epoch, JobId, JobState, JobTerms, ModelManifest, Numerics, TemplateDigest,
};
use sqlx::PgConnection;

use crate::control::note_control;
use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::models::put_model;
use crate::reign::Lane;
use crate::templates::insert_templates;
use crate::tenants::check_quota;
use crate::value::{index, saturate, small, whole};

pub use row::JobRow;
pub(crate) use row::{RawJob, select_jobs};

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
    /// What it asks of the farm.
    pub terms: JobTerms,
    /// Whether this is the one-image job of a replay.
    pub is_replay: bool,
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
            UPDATE jobs SET state = $3, hold = $5, finished_at = CASE WHEN $4 THEN now() END
            WHERE id = $1 AND state = $2",
            id.as_uuid(),
            from.as_str(),
            to.as_str(),
            to.is_final(),
            (to == JobState::Paused).then_some(Hold::Person.as_str())
        );
        let changed = update.execute(lane.connection()).await?.rows_affected() == 1;
        if changed {
            note_control(lane.connection(), id, to.as_str(), "").await?;
        }
        lane.commit().await?;
        Ok(changed)
    }

    /// Gives an unfinished job other terms, but for its tenant; `details` says in words what is new. `None` when
    /// the job is over or not there.
    pub async fn set_terms(
        &self,
        epoch: Epoch,
        id: JobId,
        terms: &JobTerms,
        details: &str,
    ) -> Result<Option<JobRow>> {
        let mut lane = self.begin_lane(Lane::Control, epoch).await?;
        let tags: Vec<&str> = terms.requirements.tags.iter().map(Tag::as_str).collect();
        let update = sqlx::query!(
            "-- set_terms
            UPDATE jobs SET urgency = $2, priority = $3, deadline_ms = $4, tags = $5, memory_bytes = $6,
                max_devices = $7, budget_ms = $8, max_failures = $9, min_image_ms = $10, after = $11,
                after_images = $12
            WHERE id = $1 AND state IN ('active', 'paused')",
            id.as_uuid(),
            terms.urgency.as_str(),
            terms.priority,
            terms.deadline_ms,
            &tags as _,
            saturate(terms.requirements.memory_bytes),
            terms.max_devices.map(whole),
            terms.caps.budget_ms.map(saturate),
            terms.caps.max_failures.map(saturate),
            terms.caps.min_image_ms.map(saturate),
            &terms.after.iter().map(JobId::as_uuid).collect::<Vec<_>>(),
            &terms.after_images.iter().map(JobId::as_uuid).collect::<Vec<_>>()
        );
        if update.execute(lane.connection()).await?.rows_affected() == 0 {
            return Ok(None);
        }
        note_control(lane.connection(), id, "set", details).await?;
        let row = job(lane.connection(), id).await?;
        lane.commit().await?;
        Ok(row)
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

pub(crate) async fn job(connection: &mut PgConnection, id: JobId) -> Result<Option<JobRow>> {
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
    check_quota(connection, &new.terms.tenant, plan.total).await?;
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
    let terms = &new.terms;
    let tags: Vec<&str> = terms.requirements.tags.iter().map(Tag::as_str).collect();
    let demand = Demand::of(plan.lines.iter().map(|line| &line.template));
    let features: Vec<&str> = demand.features.iter().map(|feature| feature.as_str()).collect();
    let insert = sqlx::query!(
        "-- insert_job_row
        WITH job AS (
            INSERT INTO jobs (id, idempotency_key, name, state, is_replay, model_name, model_digest,
                numerics, total, seed, seed_policy, count, needs, tenant, urgency, priority, deadline_ms, tags,
                memory_bytes, max_devices, budget_ms, max_failures, min_image_ms, after, after_images,
                pixels, steps, features)
            VALUES ($1, $2, $3, 'active', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                $19, $20, $21, $22, $23, $24, $25, $26, $27)
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
        needs.as_slice() as _,
        terms.tenant.as_str(),
        terms.urgency.as_str(),
        terms.priority,
        terms.deadline_ms,
        &tags as _,
        saturate(terms.requirements.memory_bytes),
        terms.max_devices.map(whole),
        terms.caps.budget_ms.map(saturate),
        terms.caps.max_failures.map(saturate),
        terms.caps.min_image_ms.map(saturate),
        &terms.after.iter().map(JobId::as_uuid).collect::<Vec<_>>(),
        &terms.after_images.iter().map(JobId::as_uuid).collect::<Vec<_>>(),
        saturate(demand.pixels),
        whole(demand.steps),
        &features as _
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
