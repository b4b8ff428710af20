//! What completions leave behind besides results: ranges to be leased again, images given up, and
//! results that were beaten by other pixels.

use std::collections::HashSet;
use std::time::Duration;

use seedfarm_core::placement::Retry;
use seedfarm_core::{Attempt, ImageId, ImageRange, JobId, WorkerId};
use sqlx::PgConnection;

use crate::completions::Completion;
use crate::database::Store;
use crate::error::Result;
use crate::results::NewResult;
use crate::snapshot::RangeRow;
use crate::value::{array_literal, index, natural, saturate, storable};

/// Most bytes of an error that are kept.
const MAX_ERROR: usize = 4000;

/// An image that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadImage {
    /// The job and the index in it.
    pub id: ImageId,
    /// How often it was tried.
    pub attempts: Attempt,
    /// The last attempt's error.
    pub error: String,
}

impl Store {
    /// At most `limit` images of a job that were given up, in order.
    pub async fn dead(&self, job: JobId, limit: u32) -> Result<Vec<DeadImage>> {
        let rows = sqlx::query!(
            "-- dead
            SELECT idx, attempts, error FROM dead WHERE job_id = $1 ORDER BY idx LIMIT $2",
            job.as_uuid(),
            i64::from(limit)
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(DeadImage {
                id: ImageId { job, index: natural(row.idx)? },
                attempts: Attempt(row.attempts),
                error: row.error,
            })
        });
        rows.collect()
    }
}

/// A range on its way into the table.
pub(crate) struct NewRange {
    /// Which of the caller's items it comes from.
    pub(crate) origin: usize,
    pub(crate) job: JobId,
    pub(crate) range: ImageRange,
    pub(crate) spent: i32,
    pub(crate) defer: Duration,
    pub(crate) avoid: Vec<WorkerId>,
    /// Workers that failed it through a fault of their own.
    pub(crate) faulted: Vec<WorkerId>,
}

/// Stores ranges and returns them with their origins. No two of them overlap.
pub(crate) async fn insert_ranges(
    connection: &mut PgConnection,
    ranges: Vec<NewRange>,
) -> Result<Vec<(usize, RangeRow)>> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let insert = sqlx::query!(
        r#"-- insert_ranges
        WITH new AS MATERIALIZED (
            SELECT nextval('ranges_id_seq') AS id, r.* FROM unnest($1::uuid[], $2::bigint[], $3::bigint[],
                $4::int[], $5::bigint[], $6::text[], $7::text[]) WITH ORDINALITY
                AS r (job, lo, hi, spent, defer_ms, avoid, faulted, number)
        ), stored AS (
            INSERT INTO ranges (id, job_id, lo, hi, spent, not_before, avoid, faulted)
            OVERRIDING SYSTEM VALUE
            SELECT id, job, lo, hi, spent, now() + defer_ms * interval '1 millisecond', avoid::uuid[],
                faulted::uuid[] FROM new
            RETURNING id, not_before
        )
        SELECT new.number AS "number!", stored.id,
            (extract(epoch FROM stored.not_before) * 1000)::bigint AS "not_before_ms!"
        FROM stored JOIN new USING (id) ORDER BY new.number"#,
        &ranges.iter().map(|new| new.job.as_uuid()).collect::<Vec<_>>(),
        &ranges.iter().map(|new| index(new.range.lo())).collect::<Vec<_>>(),
        &ranges.iter().map(|new| index(new.range.hi())).collect::<Vec<_>>(),
        &ranges.iter().map(|new| new.spent).collect::<Vec<_>>(),
        &ranges.iter().map(|new| saturate(new.defer.as_millis() as u64)).collect::<Vec<_>>(),
        &ranges.iter().map(|new| array_literal(&new.avoid)).collect::<Vec<_>>(),
        &ranges.iter().map(|new| array_literal(&new.faulted)).collect::<Vec<_>>()
    );
    let rows = insert.fetch_all(connection).await?;
    let stored = ranges.into_iter().zip(rows).map(|(new, row)| {
        let NewRange { origin, job, range, spent, avoid, .. } = new;
        let retry = Retry { row: row.id, range, spent, not_before_ms: row.not_before_ms, avoid };
        (origin, RangeRow { job, retry })
    });
    Ok(stored.collect())
}

/// Stores images that were given up and says which are new.
pub(crate) async fn insert_dead(
    connection: &mut PgConnection,
    dead: &[DeadImage],
) -> Result<HashSet<ImageId>> {
    if dead.is_empty() {
        return Ok(HashSet::new());
    }
    let insert = sqlx::query!(
        "-- insert_dead
        INSERT INTO dead (job_id, idx, attempts, error)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[])
        ON CONFLICT (job_id, idx) DO NOTHING
        RETURNING job_id, idx",
        &dead.iter().map(|dead| dead.id.job.as_uuid()).collect::<Vec<_>>(),
        &dead.iter().map(|dead| index(dead.id.index)).collect::<Vec<_>>(),
        &dead.iter().map(|dead| dead.attempts.0).collect::<Vec<_>>(),
        &dead.iter().map(|dead| storable(&dead.error, MAX_ERROR)).collect::<Vec<_>>()
    );
    let rows = insert
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| Ok(ImageId { job: JobId::from_uuid(row.job_id), index: natural(row.idx)? }));
    rows.collect()
}

/// An image with other pixels than those stored for the same recipe in the same numeric class.
pub(crate) struct Beaten<'a> {
    pub(crate) completion: &'a Completion,
    pub(crate) image: &'a NewResult,
}

/// Records divergences, for a person to look at.
pub(crate) async fn insert_divergences(
    connection: &mut PgConnection,
    divergent: &[Beaten<'_>],
) -> Result<()> {
    macro_rules! column {
        ($beaten:ident => $value:expr) => {
            divergent.iter().map(|$beaten| $value).collect::<Vec<_>>()
        };
    }
    if divergent.is_empty() {
        return Ok(());
    }
    let insert = sqlx::query!(
        "-- insert_divergences
        INSERT INTO divergences (job_id, idx, recipe, pixels, artifact, fingerprint, worker_id)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[],
            $7::uuid[])",
        &column!(beaten => beaten.completion.job.as_uuid()),
        &column!(beaten => index(beaten.image.index)),
        &column!(beaten => beaten.image.recipe.as_bytes().as_slice()) as _,
        &column!(beaten => beaten.image.pixels.as_bytes().as_slice()) as _,
        &column!(beaten => beaten.image.artifact.as_bytes().as_slice()) as _,
        &column!(beaten => beaten.completion.fingerprint.digest().as_bytes().to_vec()),
        &column!(beaten => beaten.completion.worker.as_uuid())
    );
    insert.execute(connection).await?;
    Ok(())
}
