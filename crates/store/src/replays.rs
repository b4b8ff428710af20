//! Recipes that are rendered again, and what that proved.

use seedfarm_core::plan::JobPlan;
use seedfarm_core::{
    ArtifactDigest, Attempt, Epoch, Fingerprint, ImageId, JobId, PixelDigest, RecipeDigest, ReplayId,
    Verdict, WorkerId,
};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::fingerprints::parse;
use crate::jobs::{JobRow, NewJob, insert_job};
use crate::reign::Lane;
use crate::value::{index, natural};

/// A replay that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReplay {
    /// Its id.
    pub id: ReplayId,
    /// The image of this farm, where it is one.
    pub original: Option<ImageId>,
    /// The recipe.
    pub recipe: RecipeDigest,
    /// The recipe's canonical JSON.
    pub recipe_json: String,
    /// What the original shows.
    pub expected_pixels: PixelDigest,
    /// The original's file, where there is one.
    pub expected_artifact: Option<ArtifactDigest>,
    /// Who rendered the original, where that is a worker of this farm.
    pub original_worker: Option<WorkerId>,
    /// How the original was rendered, where that is known.
    pub original_fingerprint: Option<Fingerprint>,
    /// What it comes to: the job that renders it again, or the verdict at once.
    pub outlook: Outlook,
}

/// What a new replay comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outlook {
    /// A one-image job renders the recipe again.
    Rendered(Box<(NewJob, JobPlan)>),
    /// It cannot be rendered.
    Judged(Verdict),
}

/// The image that a replay gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What it shows.
    pub pixels: PixelDigest,
    /// Its file.
    pub artifact: ArtifactDigest,
    /// Who rendered it.
    pub worker: WorkerId,
    /// How it was rendered.
    pub fingerprint: Fingerprint,
    /// The attempt that gave it, from 1.
    pub attempt: Attempt,
}

/// A replay as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayRow {
    /// Its id.
    pub id: ReplayId,
    /// The image of this farm, where it is one.
    pub original: Option<ImageId>,
    /// The recipe.
    pub recipe: RecipeDigest,
    /// The recipe's canonical JSON.
    pub recipe_json: String,
    /// What the original shows.
    pub expected_pixels: PixelDigest,
    /// The original's file, where there is one.
    pub expected_artifact: Option<ArtifactDigest>,
    /// Who rendered the original, where known.
    pub original_worker: Option<WorkerId>,
    /// How the original was rendered, where known.
    pub original_fingerprint: Option<Fingerprint>,
    /// The job that renders it again.
    pub job: Option<JobId>,
    /// What that gave, once it is there.
    pub rendered: Option<Rendered>,
    /// Why it could not be rendered, if the job gave up.
    pub error: Option<String>,
    /// The verdict, once there is one.
    pub verdict: Option<Verdict>,
    /// When it was asked for, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
}

struct RawReplay {
    id: Uuid,
    original_job_id: Option<Uuid>,
    original_idx: Option<i64>,
    recipe: [u8; 32],
    recipe_body: String,
    expected_pixels: [u8; 32],
    expected_artifact: Option<[u8; 32]>,
    original_worker_id: Option<Uuid>,
    original_fingerprint: Option<String>,
    job_id: Option<Uuid>,
    verdict: Option<Json<Verdict>>,
    created_at_ms: i64,
    pixels: Option<[u8; 32]>,
    artifact: Option<[u8; 32]>,
    worker_id: Option<Uuid>,
    attempt: Option<i32>,
    fingerprint: Option<String>,
    error: Option<String>,
}

impl RawReplay {
    fn original(&self) -> Result<Option<ImageId>> {
        let both = self.original_job_id.zip(self.original_idx);
        let image = both.map(|(job, at)| Ok(ImageId { job: JobId::from_uuid(job), index: natural(at)? }));
        image.transpose()
    }

    fn rendered(&self) -> Result<Option<Rendered>> {
        let (Some(pixels), Some(artifact), Some(worker), Some(attempt), Some(fingerprint)) =
            (self.pixels, self.artifact, self.worker_id, self.attempt, &self.fingerprint)
        else {
            return Ok(None);
        };
        Ok(Some(Rendered {
            pixels: PixelDigest::from_bytes(pixels),
            artifact: ArtifactDigest::from_bytes(artifact),
            worker: WorkerId::from_uuid(worker),
            fingerprint: parse(fingerprint)?,
            attempt: Attempt(attempt),
        }))
    }
}

impl TryFrom<RawReplay> for ReplayRow {
    type Error = StoreError;
    fn try_from(raw: RawReplay) -> Result<Self> {
        Ok(Self {
            id: ReplayId::from_uuid(raw.id),
            original: raw.original()?,
            recipe: RecipeDigest::from_bytes(raw.recipe),
            expected_pixels: PixelDigest::from_bytes(raw.expected_pixels),
            expected_artifact: raw.expected_artifact.map(ArtifactDigest::from_bytes),
            original_worker: raw.original_worker_id.map(WorkerId::from_uuid),
            original_fingerprint: raw.original_fingerprint.as_deref().map(parse).transpose()?,
            job: raw.job_id.map(JobId::from_uuid),
            rendered: raw.rendered()?,
            recipe_json: raw.recipe_body,
            error: raw.error,
            verdict: raw.verdict.map(|Json(verdict)| verdict),
            created_at_ms: raw.created_at_ms,
        })
    }
}

/// A query for replays `y`: the statement's name, its tail, and its arguments.
macro_rules! select_replays {
    ($name:literal, $tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RawReplay,
            "-- " + $name + r#"
            SELECT y.id, y.original_job_id, y.original_idx, y.recipe AS "recipe: [u8; 32]", y.recipe_body,
                y.expected_pixels AS "expected_pixels: [u8; 32]",
                y.expected_artifact AS "expected_artifact: [u8; 32]",
                y.original_worker_id, y.original_fingerprint, y.job_id,
                y.details AS "verdict: Json<Verdict>",
                (extract(epoch FROM y.created_at) * 1000)::bigint AS "created_at_ms!",
                r.pixels AS "pixels?: [u8; 32]", r.artifact AS "artifact?: [u8; 32]",
                r.worker_id AS "worker_id?", r.attempt AS "attempt?", f.body AS "fingerprint?",
                d.error AS "error?"
            FROM replays y
            LEFT JOIN results r ON r.job_id = y.job_id AND r.idx = 0
            LEFT JOIN fingerprints f ON f.digest = r.fingerprint
            LEFT JOIN dead d ON d.job_id = y.job_id AND d.idx = 0 "# + $tail
            $(, $argument)*
        )
    };
}

impl Store {
    /// Stores a replay with the job that renders it, or with its verdict: all of it or nothing.
    pub async fn insert_replay(&self, epoch: Epoch, new: &NewReplay) -> Result<(ReplayRow, Option<JobRow>)> {
        let mut lane = self.begin_lane(Lane::Submissions, epoch).await?;
        let connection = lane.connection();
        let job = match &new.outlook {
            Outlook::Rendered(job) => Some(insert_job(connection, &job.0, &job.1).await?.job),
            Outlook::Judged(_) => None,
        };
        insert_replay_row(connection, new, job.as_ref().map(|job| job.id)).await?;
        let row = replay(connection, new.id).await?;
        lane.commit().await?;
        let row = row.ok_or_else(|| StoreError::unreadable("the replay", new.id))?;
        Ok((row, job))
    }

    /// One replay.
    pub async fn replay(&self, id: ReplayId) -> Result<Option<ReplayRow>> {
        let mut connection = self.pool.acquire().await?;
        replay(&mut connection, id).await
    }

    /// At most `limit` replays, newest first.
    pub async fn replays(&self, limit: u32) -> Result<Vec<ReplayRow>> {
        let rows = select_replays!("replays", "ORDER BY y.created_at DESC, y.id LIMIT $1", i64::from(limit));
        rows.fetch_all(&self.pool).await?.into_iter().map(ReplayRow::try_from).collect()
    }

    /// The replay that a job renders.
    pub async fn replay_of_job(&self, job: JobId) -> Result<Option<ReplayRow>> {
        let row = select_replays!("replay_of_job", "WHERE y.job_id = $1", job.as_uuid());
        row.fetch_optional(&self.pool).await?.map(ReplayRow::try_from).transpose()
    }

    /// Replays without a verdict whose jobs are final, oldest first.
    pub async fn unjudged(&self) -> Result<Vec<ReplayRow>> {
        let rows = select_replays!(
            "unjudged",
            "JOIN jobs j ON j.id = y.job_id
            WHERE y.verdict IS NULL AND j.state IN ('finished', 'cancelled') ORDER BY y.created_at, y.id"
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(ReplayRow::try_from).collect()
    }

    /// Stores the verdict on a replay, unless it has one; says whether it was stored.
    pub async fn judge(&self, id: ReplayId, verdict: &Verdict) -> Result<bool> {
        let update = sqlx::query!(
            "-- judge
            UPDATE replays SET verdict = $2, details = $3, judged_at = now()
            WHERE id = $1 AND verdict IS NULL",
            id.as_uuid(),
            verdict.as_str(),
            Json(verdict) as _
        );
        Ok(update.execute(&self.pool).await?.rows_affected() == 1)
    }
}

async fn replay(connection: &mut PgConnection, id: ReplayId) -> Result<Option<ReplayRow>> {
    let row = select_replays!("replay", "WHERE y.id = $1", id.as_uuid());
    row.fetch_optional(connection).await?.map(ReplayRow::try_from).transpose()
}

async fn insert_replay_row(connection: &mut PgConnection, new: &NewReplay, job: Option<JobId>) -> Result<()> {
    let verdict = match &new.outlook {
        Outlook::Judged(verdict) => Some(verdict),
        Outlook::Rendered(_) => None,
    };
    let fingerprint = new.original_fingerprint.as_ref().map(seedfarm_core::canonical::to_string);
    let insert = sqlx::query!(
        "-- insert_replay
        INSERT INTO replays (id, original_job_id, original_idx, recipe, recipe_body, expected_pixels,
            expected_artifact, original_worker_id, original_fingerprint, job_id, verdict, details, judged_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
            CASE WHEN $11::text IS NOT NULL THEN now() END)",
        new.id.as_uuid(),
        new.original.map(|image| image.job.as_uuid()),
        new.original.map(|image| index(image.index)),
        new.recipe.as_bytes(),
        new.recipe_json,
        new.expected_pixels.as_bytes(),
        new.expected_artifact.as_ref().map(|digest| digest.as_bytes().as_slice()),
        new.original_worker.map(|worker| worker.as_uuid()),
        fingerprint,
        job.map(|job| job.as_uuid()),
        verdict.map(Verdict::as_str),
        verdict.map(Json) as _
    );
    insert.execute(connection).await?;
    Ok(())
}
