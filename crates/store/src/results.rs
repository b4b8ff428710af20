//! Images that were made.

use std::collections::{BTreeSet, HashMap, HashSet};

use seedfarm_core::completion::Outcome;
use seedfarm_core::plan::SeedPlan;
use seedfarm_core::{
    ArtifactDigest, Attempt, FingerprintDigest, ImageId, ImageRange, JobId, NumericClass, PixelDigest,
    Recipe, RecipeDigest, SeedPolicy, TemplateDigest, WorkerId,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::value::{index, natural, saturate, small};

/// Lines of jobs that are searched for a recipe, newest first.
const LINES_A_SEARCH: i64 = 1000;
/// Longest rendering time that is kept: 2^31 milliseconds are 24 days.
const MAX_DURATION_MS: u64 = 1 << 31;

/// One image as a worker has made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewResult {
    /// Its index in the job.
    pub index: u64,
    /// Its seed.
    pub seed: u64,
    /// Its recipe but for the seed; from the job's lines.
    pub template: TemplateDigest,
    /// Its recipe.
    pub recipe: RecipeDigest,
    /// What it shows.
    pub pixels: PixelDigest,
    /// Its file.
    pub artifact: ArtifactDigest,
    /// Size of the file.
    pub artifact_bytes: u64,
    /// Rendering time on the device.
    pub duration_ms: u64,
    /// What whoever asked for it should know.
    pub warnings: Vec<String>,
}

impl NewResult {
    /// The rendering time as it is stored.
    pub(crate) fn stored_duration_ms(&self) -> i64 {
        saturate(self.duration_ms.min(MAX_DURATION_MS))
    }
}

/// One stored image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The job and the index in it.
    pub id: ImageId,
    /// Its seed.
    pub seed: u64,
    /// Its recipe but for the seed.
    pub template: TemplateDigest,
    /// Its recipe.
    pub recipe: RecipeDigest,
    /// What it shows.
    pub pixels: PixelDigest,
    /// Its file.
    pub artifact: ArtifactDigest,
    /// Size of the file.
    pub artifact_bytes: u64,
    /// How it was rendered.
    pub fingerprint: FingerprintDigest,
    /// The class of arithmetic of that.
    pub class: NumericClass,
    /// Who rendered it.
    pub worker: WorkerId,
    /// The attempt that gave it, from 1.
    pub attempt: Attempt,
    /// Rendering time on the device.
    pub duration_ms: u64,
    /// When it was stored, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
}

struct RawImage {
    job_id: Uuid,
    idx: i64,
    seed: i64,
    template: [u8; 32],
    recipe: [u8; 32],
    pixels: [u8; 32],
    artifact: [u8; 32],
    artifact_bytes: i64,
    fingerprint: [u8; 32],
    numeric_class: [u8; 32],
    worker_id: Uuid,
    attempt: i32,
    duration_ms: i64,
    created_at_ms: i64,
}

impl TryFrom<RawImage> for ImageRow {
    type Error = StoreError;
    fn try_from(raw: RawImage) -> Result<Self> {
        Ok(Self {
            id: ImageId { job: JobId::from_uuid(raw.job_id), index: natural(raw.idx)? },
            seed: raw.seed.cast_unsigned(),
            template: TemplateDigest::from_bytes(raw.template),
            recipe: RecipeDigest::from_bytes(raw.recipe),
            pixels: PixelDigest::from_bytes(raw.pixels),
            artifact: ArtifactDigest::from_bytes(raw.artifact),
            artifact_bytes: natural(raw.artifact_bytes)?,
            fingerprint: FingerprintDigest::from_bytes(raw.fingerprint),
            class: NumericClass::from_bytes(raw.numeric_class),
            worker: WorkerId::from_uuid(raw.worker_id),
            attempt: Attempt(raw.attempt),
            duration_ms: natural(raw.duration_ms)?,
            created_at_ms: raw.created_at_ms,
        })
    }
}

/// A query for results `r`: the statement's name, its tail, and its arguments.
macro_rules! select_images {
    ($name:literal, $tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RawImage,
            "-- " + $name + r#"
            SELECT r.job_id, r.idx, r.seed, r.template AS "template: [u8; 32]",
                r.recipe AS "recipe: [u8; 32]", r.pixels AS "pixels: [u8; 32]",
                r.artifact AS "artifact: [u8; 32]", r.artifact_bytes,
                r.fingerprint AS "fingerprint: [u8; 32]", f.numeric_class AS "numeric_class: [u8; 32]",
                r.worker_id, r.attempt, r.duration_ms,
                (extract(epoch FROM r.created_at) * 1000)::bigint AS "created_at_ms!"
            FROM results r JOIN fingerprints f ON f.digest = r.fingerprint "# + $tail
            $(, $argument)*
        )
    };
}

impl Store {
    /// At most `limit` images of a job, in order, with an index of at least `from`.
    pub async fn images(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<ImageRow>> {
        let rows = select_images!(
            "images",
            "WHERE r.job_id = $1 AND r.idx >= $2 ORDER BY r.idx LIMIT $3",
            job.as_uuid(),
            saturate(from),
            i64::from(limit)
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(ImageRow::try_from).collect()
    }

    /// One image.
    pub async fn image(&self, id: ImageId) -> Result<Option<ImageRow>> {
        let row = select_images!(
            "image",
            "WHERE r.job_id = $1 AND r.idx = $2",
            id.job.as_uuid(),
            saturate(id.index)
        );
        row.fetch_optional(&self.pool).await?.map(ImageRow::try_from).transpose()
    }

    /// An image that was rendered from this very recipe, not for a replay; the first that was made.
    pub async fn image_by_recipe(&self, recipe: &Recipe) -> Result<Option<ImageRow>> {
        let places = self.places_of(recipe).await?;
        let (jobs, ranges): (Vec<Uuid>, Vec<ImageRange>) = places.into_iter().unzip();
        let row = select_images!(
            "image_by_recipe",
            "JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS p (job, lo, hi)
                ON r.job_id = p.job AND r.idx >= p.lo AND r.idx < p.hi
            WHERE r.seed = $4 ORDER BY r.created_at, r.job_id, r.idx LIMIT 1",
            &jobs,
            &ranges.iter().map(|range| index(range.lo())).collect::<Vec<_>>(),
            &ranges.iter().map(|range| index(range.hi())).collect::<Vec<_>>(),
            recipe.seed.cast_signed()
        );
        row.fetch_optional(&self.pool).await?.map(ImageRow::try_from).transpose()
    }

    /// Where images of a recipe can lie: the lines that have its template, narrowed by its seed.
    async fn places_of(&self, recipe: &Recipe) -> Result<Vec<(Uuid, ImageRange)>> {
        let template = recipe.template.digest();
        let rows = sqlx::query!(
            r#"-- places_of
            SELECT l.job_id, l.line, l.seed AS line_seed, j.seed, j.seed_policy, j.count
            FROM job_lines l JOIN jobs j ON j.id = l.job_id
            WHERE l.template = $1 AND NOT j.is_replay
            ORDER BY j.created_at DESC, l.job_id, l.line LIMIT $2"#,
            template.as_bytes(),
            LINES_A_SEARCH
        );
        let mut places = Vec::new();
        for row in rows.fetch_all(&self.pool).await? {
            let plan = SeedPlan {
                seed: row.seed.cast_unsigned(),
                policy: SeedPolicy::from_name(&row.seed_policy)?,
                count: small(row.count)?,
            };
            let line_seed = row.line_seed.map(i64::cast_unsigned);
            let range = places_in_line(&plan, u64::from(small(row.line)?), line_seed, recipe.seed);
            places.extend(range.map(|range| (row.job_id, range)));
        }
        Ok(places)
    }
}

/// The images of a line that may have a seed: all of them where seeds are digests.
fn places_in_line(plan: &SeedPlan, line: u64, line_seed: Option<u64>, seed: u64) -> Option<ImageRange> {
    let count = u64::from(plan.count);
    let images = ImageRange::new(line * count, (line + 1) * count)?;
    let at = match plan.policy {
        SeedPolicy::Derived => return Some(images),
        SeedPolicy::Sequential => seed.wrapping_sub(plan.seed),
        SeedPolicy::Fixed => images.lo(),
        SeedPolicy::Explicit => images.lo().checked_add(seed.wrapping_sub(line_seed?))?,
    };
    match plan.policy {
        SeedPolicy::Fixed => (plan.seed == seed).then_some(images),
        _ => images.contains(at).then(|| ImageRange::new(at, at + 1)).flatten(),
    }
}

/// A result on its way into the table, with what its lease and its worker say of it.
pub(crate) struct FreshResult<'a> {
    pub(crate) job: JobId,
    pub(crate) image: &'a NewResult,
    pub(crate) fingerprint: FingerprintDigest,
    pub(crate) worker: WorkerId,
    pub(crate) attempt: Attempt,
}

impl FreshResult<'_> {
    /// The image.
    pub(crate) fn id(&self) -> ImageId {
        ImageId { job: self.job, index: self.image.index }
    }
}

/// Stores results that are not there yet and says which those were. No image may be in `fresh` twice.
pub(crate) async fn insert_results(
    connection: &mut PgConnection,
    fresh: &[FreshResult<'_>],
) -> Result<HashSet<ImageId>> {
    macro_rules! column {
        ($result:ident => $value:expr) => {
            fresh.iter().map(|$result| $value).collect::<Vec<_>>()
        };
    }
    if fresh.is_empty() {
        return Ok(HashSet::new());
    }
    let insert = sqlx::query!(
        "-- insert_results
        INSERT INTO results (job_id, idx, seed, template, recipe, pixels, artifact, artifact_bytes,
            fingerprint, worker_id, attempt, duration_ms)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[],
            $7::bytea[], $8::bigint[], $9::bytea[], $10::uuid[], $11::int[], $12::bigint[])
        ON CONFLICT (job_id, idx) DO NOTHING
        RETURNING job_id, idx",
        &column!(result => result.job.as_uuid()),
        &column!(result => index(result.image.index)),
        &column!(result => result.image.seed.cast_signed()),
        &column!(result => result.image.template.as_bytes().as_slice()) as _,
        &column!(result => result.image.recipe.as_bytes().as_slice()) as _,
        &column!(result => result.image.pixels.as_bytes().as_slice()) as _,
        &column!(result => result.image.artifact.as_bytes().as_slice()) as _,
        &column!(result => saturate(result.image.artifact_bytes)),
        &column!(result => result.fingerprint.as_bytes().as_slice()) as _,
        &column!(result => result.worker.as_uuid()),
        &column!(result => result.attempt.0),
        &column!(result => result.image.stored_duration_ms())
    );
    let rows = insert.fetch_all(connection).await?;
    rows.into_iter().map(|row| image_id(row.job_id, row.idx)).collect()
}

/// What is stored for each of these images, where something is.
pub(crate) async fn stored_outcomes(
    connection: &mut PgConnection,
    images: impl Iterator<Item = ImageId>,
) -> Result<HashMap<ImageId, Outcome>> {
    let (jobs, indices): (Vec<Uuid>, Vec<i64>) =
        images.map(|image| (image.job.as_uuid(), saturate(image.index))).unzip();
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let select = sqlx::query!(
        r#"-- stored_outcomes
        SELECT r.job_id, r.idx, r.recipe AS "recipe: [u8; 32]", r.pixels AS "pixels: [u8; 32]",
            f.numeric_class AS "class: [u8; 32]"
        FROM unnest($1::uuid[], $2::bigint[]) AS i (job, idx)
        JOIN results r ON r.job_id = i.job AND r.idx = i.idx
        JOIN fingerprints f ON f.digest = r.fingerprint"#,
        &jobs,
        &indices
    );
    let rows = select.fetch_all(connection).await?.into_iter().map(|row| {
        let outcome = Outcome {
            recipe: RecipeDigest::from_bytes(row.recipe),
            class: NumericClass::from_bytes(row.class),
            pixels: PixelDigest::from_bytes(row.pixels),
        };
        Ok((image_id(row.job_id, row.idx)?, outcome))
    });
    rows.collect()
}

/// The images of these ranges that have results.
pub(crate) async fn settled_in(
    connection: &mut PgConnection,
    ranges: impl Iterator<Item = (JobId, ImageRange)>,
) -> Result<BTreeSet<ImageId>> {
    let (jobs, ranges): (Vec<Uuid>, Vec<ImageRange>) =
        ranges.map(|(job, range)| (job.as_uuid(), range)).unzip();
    if jobs.is_empty() {
        return Ok(BTreeSet::new());
    }
    let select = sqlx::query!(
        "-- settled_in
        SELECT r.job_id, r.idx
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS i (job, lo, hi)
        JOIN results r ON r.job_id = i.job AND r.idx >= i.lo AND r.idx < i.hi",
        &jobs,
        &ranges.iter().map(|range| index(range.lo())).collect::<Vec<_>>(),
        &ranges.iter().map(|range| index(range.hi())).collect::<Vec<_>>()
    );
    let rows = select.fetch_all(connection).await?;
    rows.into_iter().map(|row| image_id(row.job_id, row.idx)).collect()
}

fn image_id(job: Uuid, index: i64) -> Result<ImageId> {
    Ok(ImageId { job: JobId::from_uuid(job), index: natural(index)? })
}
