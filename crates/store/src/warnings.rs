//! What whoever asked for an image should know of it: a row for each image of which there is something.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use seedfarm_core::{ImageId, JobId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;
use crate::results::FreshResult;
use crate::value::{index, natural, saturate, storable};

/// Most warnings of one image that are kept.
const MAX_TEXTS: usize = 16;
/// Most bytes of one warning that are kept.
const MAX_TEXT_BYTES: usize = 1000;

/// The warnings of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageWarnings {
    /// The image.
    pub id: ImageId,
    /// What to know, in words.
    pub texts: Vec<String>,
}

impl Store {
    /// At most `limit` images of a job that have warnings, in order of index.
    pub async fn warnings(&self, job: JobId, limit: u32) -> Result<Vec<ImageWarnings>> {
        let rows = sqlx::query!(
            "-- warnings
            SELECT idx, texts FROM warnings WHERE job_id = $1 ORDER BY idx LIMIT $2",
            job.as_uuid(),
            i64::from(limit)
        );
        let rows =
            rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
                Ok(ImageWarnings { id: ImageId { job, index: natural(row.idx)? }, texts: row.texts })
            });
        rows.collect()
    }

    /// The warnings of a job's images from the first to the last of `images`, by index.
    pub async fn warnings_in(
        &self,
        job: JobId,
        images: RangeInclusive<u64>,
    ) -> Result<HashMap<u64, Vec<String>>> {
        let rows = sqlx::query!(
            "-- warnings_in
            SELECT idx, texts FROM warnings WHERE job_id = $1 AND idx >= $2 AND idx <= $3",
            job.as_uuid(),
            saturate(*images.start()),
            saturate(*images.end())
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| Ok((natural(row.idx)?, row.texts))).collect()
    }
}

/// Stores the warnings of images that were accepted just now, for the completions lane.
pub(crate) async fn insert_warnings(
    connection: &mut PgConnection,
    fresh: &[FreshResult<'_>],
    accepted: &HashSet<ImageId>,
) -> Result<()> {
    let is_new = |result: &&FreshResult<'_>| accepted.contains(&result.id());
    let told = fresh.iter().filter(|result| !result.image.warnings.is_empty()).filter(is_new);
    let told: Vec<&FreshResult<'_>> = told.collect();
    if told.is_empty() {
        return Ok(());
    }
    let jobs: Vec<Uuid> = told.iter().map(|result| result.job.as_uuid()).collect();
    let indices: Vec<i64> = told.iter().map(|result| index(result.image.index)).collect();
    let texts: Vec<String> = told.iter().map(|result| as_json(&result.image.warnings)).collect();
    let insert = sqlx::query!(
        "-- insert_warnings
        INSERT INTO warnings (job_id, idx, texts)
        SELECT job, idx, ARRAY(SELECT jsonb_array_elements_text(texts::jsonb))
        FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS w (job, idx, texts)
        ON CONFLICT (job_id, idx) DO NOTHING",
        &jobs,
        &indices,
        &texts
    );
    insert.execute(connection).await?;
    Ok(())
}

/// The texts as one JSON list, because `unnest` would flatten an array of arrays.
fn as_json(texts: &[String]) -> String {
    let texts = texts.iter().take(MAX_TEXTS).map(|text| storable(text, MAX_TEXT_BYTES));
    serde_json::Value::from(texts.collect::<Vec<_>>()).to_string()
}
