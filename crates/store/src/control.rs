//! What people do to the images of a job after its submission: retry those that were given up, give up those
//! that wait. Both run while neither claims nor completions do (`begin_alone`).

use seedfarm_core::skip::{ranges_of, skip};
use seedfarm_core::{Attempt, Epoch, ImageId, ImageRange, JobId};
use sqlx::PgConnection;

use crate::aftermath::{DeadImage, NewRange, insert_dead, insert_ranges};
use crate::database::Store;
use crate::error::Result;
use crate::progress::{Progress, finish_jobs};
use crate::snapshot::{RangeRow, ranges_of_job};
use crate::value::{index, natural, storable};

/// Most bytes of a note that are kept.
const MAX_DETAILS: usize = 2000;

/// One change of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRow {
    /// `paused`, `active`, `cancelled`, `set`, `retry` or `skip`.
    pub action: String,
    /// In words.
    pub details: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
}

/// What came of retrying or skipping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retried {
    /// Images that were retried or given up.
    pub images: u64,
    /// Whether that finished the job, or began a finished one again.
    pub state_changed: bool,
}

impl Store {
    /// Puts images that were given up back among those that wait, as if never tried: those in `which` (all, if
    /// it is empty) whose error holds `error`. A finished job becomes active again; a cancelled one stays.
    pub async fn retry_dead(
        &self,
        epoch: Epoch,
        id: JobId,
        which: &[ImageRange],
        error: &str,
    ) -> Result<Retried> {
        let mut lane = self.begin_alone(epoch).await?;
        let connection = lane.connection();
        let indices = take_dead(connection, id, which, error).await?;
        if indices.is_empty() {
            return Ok(Retried::default());
        }
        let images = indices.len() as u64;
        let ranges = ranges_of(&indices).into_iter().map(|range| waiting_again(id, range)).collect();
        insert_ranges(connection, ranges).await?;
        let state_changed = begin_again(connection, id, images).await?;
        note_control(connection, id, "retry", &format!("{images} images{}", where_error(error))).await?;
        lane.commit().await?;
        Ok(Retried { images, state_changed })
    }

    /// Gives up those images of `which` that wait, for `reason`. Images that are leased stay so.
    pub async fn skip(&self, epoch: Epoch, id: JobId, which: &[ImageRange], reason: &str) -> Result<Retried> {
        let mut lane = self.begin_alone(epoch).await?;
        let connection = lane.connection();
        let mut dead = skip_ranges(connection, id, which).await?;
        dead.extend(skip_fresh(connection, id, which).await?);
        let indices: Vec<u64> = dead.iter().flat_map(|range| range.indices()).collect();
        if indices.is_empty() {
            return Ok(Retried::default());
        }
        let error = format!("skipped: {reason}");
        let given_up: Vec<DeadImage> = indices
            .iter()
            .map(|&index| DeadImage {
                id: ImageId { job: id, index },
                attempts: Attempt(0),
                error: error.clone(),
            })
            .collect();
        let images = insert_dead(connection, &given_up).await?.len() as u64;
        let mut progress = [give_up(connection, id, images).await?];
        finish_jobs(connection, &mut progress).await?;
        note_control(connection, id, "skip", &format!("{images} images: {reason}")).await?;
        lane.commit().await?;
        Ok(Retried { images, state_changed: progress[0].finished })
    }

    /// What people changed of a job, the newest first, at most `limit`.
    pub async fn control_log(&self, id: JobId, limit: u32) -> Result<Vec<ControlRow>> {
        let rows = sqlx::query_as!(
            ControlRow,
            r#"-- control_log
            SELECT action, details, (extract(epoch FROM created_at) * 1000)::bigint AS "created_at_ms!"
            FROM control_log WHERE job_id = $1 ORDER BY id DESC LIMIT $2"#,
            id.as_uuid(),
            i64::from(limit)
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

fn where_error(error: &str) -> String {
    if error.is_empty() { String::new() } else { format!(" whose error holds '{error}'") }
}

fn waiting_again(job: JobId, range: ImageRange) -> NewRange {
    NewRange {
        origin: 0,
        job,
        range,
        spent: 0,
        defer: std::time::Duration::ZERO,
        avoid: Vec::new(),
        faulted: Vec::new(),
    }
}

/// Takes images out of those given up, unless their job is cancelled; their indices, in order.
async fn take_dead(
    connection: &mut PgConnection,
    id: JobId,
    which: &[ImageRange],
    error: &str,
) -> Result<Vec<u64>> {
    let take = sqlx::query_scalar!(
        "-- take_dead
        WITH open AS MATERIALIZED (
            SELECT id FROM jobs WHERE id = $1 AND state <> 'cancelled' FOR NO KEY UPDATE
        )
        DELETE FROM dead USING open
        WHERE dead.job_id = open.id AND ($4 = '' OR position($4 IN dead.error) > 0)
            AND (cardinality($2::bigint[]) = 0 OR EXISTS (
                SELECT FROM unnest($2::bigint[], $3::bigint[]) AS w (lo, hi) WHERE idx >= w.lo AND idx < w.hi
            ))
        RETURNING idx",
        id.as_uuid(),
        &which.iter().map(|range| index(range.lo())).collect::<Vec<_>>(),
        &which.iter().map(|range| index(range.hi())).collect::<Vec<_>>(),
        error
    );
    let taken = take.fetch_all(connection).await?.into_iter().map(natural);
    let mut indices = taken.collect::<Result<Vec<u64>>>()?;
    indices.sort_unstable();
    Ok(indices)
}

/// Counts images as not given up any more, and makes a finished job active again; says whether it was finished.
async fn begin_again(connection: &mut PgConnection, id: JobId, images: u64) -> Result<bool> {
    let count = sqlx::query!(
        "-- begin_again_count
        UPDATE job_progress SET failed = failed - $2 WHERE job_id = $1",
        id.as_uuid(),
        index(images)
    );
    count.execute(&mut *connection).await?;
    let begin = sqlx::query!(
        "-- begin_again
        UPDATE jobs SET state = 'active', finished_at = NULL WHERE id = $1 AND state = 'finished'",
        id.as_uuid()
    );
    Ok(begin.execute(connection).await?.rows_affected() == 1)
}

/// Takes images out of the stored ranges of a job that is not over.
async fn skip_ranges(
    connection: &mut PgConnection,
    id: JobId,
    which: &[ImageRange],
) -> Result<Vec<ImageRange>> {
    let (mut dead, mut gone, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for RangeRow { retry, .. } in ranges_of_job(connection, id).await? {
        let skipped = skip(retry.range, which);
        if skipped.dead.is_empty() {
            continue;
        }
        dead.extend(skipped.dead);
        gone.push(retry.row);
        rest.extend(skipped.rest.into_iter().map(|range| NewRange {
            spent: retry.spent,
            avoid: retry.avoid.clone(),
            ..waiting_again(id, range)
        }));
    }
    let delete = sqlx::query!(
        "-- skip_ranges
        DELETE FROM ranges WHERE id = ANY($1)",
        &gone
    );
    delete.execute(&mut *connection).await?;
    insert_ranges(connection, rest).await?;
    Ok(dead)
}

/// Takes images out of those that were never leased: the cursor moves past the last of them, and what is not
/// skipped below it becomes a stored range.
async fn skip_fresh(
    connection: &mut PgConnection,
    id: JobId,
    which: &[ImageRange],
) -> Result<Vec<ImageRange>> {
    let fresh = sqlx::query!(
        "-- skip_fresh
        SELECT c.next, j.total FROM job_cursors c JOIN jobs j ON j.id = c.job_id
        WHERE c.job_id = $1 AND j.state IN ('active', 'paused') FOR UPDATE OF c",
        id.as_uuid()
    );
    let Some(fresh) = fresh.fetch_optional(&mut *connection).await? else { return Ok(Vec::new()) };
    let Some(range) = ImageRange::new(natural(fresh.next)?, natural(fresh.total)?) else {
        return Ok(Vec::new());
    };
    let skipped = skip(range, which);
    let Some(next) = skipped.dead.last().map(|last| last.hi()) else { return Ok(Vec::new()) };
    let below = skipped.rest.into_iter().filter(|rest| rest.lo() < next);
    insert_ranges(connection, below.map(|range| waiting_again(id, range)).collect()).await?;
    let advance = sqlx::query!(
        "-- skip_fresh_advance
        UPDATE job_cursors SET next = $2 WHERE job_id = $1",
        id.as_uuid(),
        index(next)
    );
    advance.execute(connection).await?;
    Ok(skipped.dead)
}

/// Counts images as given up.
async fn give_up(connection: &mut PgConnection, id: JobId, images: u64) -> Result<Progress> {
    let row = sqlx::query!(
        "-- give_up
        UPDATE job_progress p SET failed = p.failed + $2 FROM jobs j
        WHERE p.job_id = $1 AND j.id = p.job_id
        RETURNING p.done, p.failed, j.total",
        id.as_uuid(),
        index(images)
    );
    let row = row.fetch_one(connection).await?;
    Ok(Progress {
        job: id,
        done: natural(row.done)?,
        failed: natural(row.failed)?,
        total: natural(row.total)?,
        finished: false,
        held: None,
    })
}

/// Notes a change in the transaction that makes it.
pub(crate) async fn note_control(
    connection: &mut PgConnection,
    id: JobId,
    action: &str,
    details: &str,
) -> Result<()> {
    let note = sqlx::query!(
        "-- note_control
        INSERT INTO control_log (job_id, action, details) VALUES ($1, $2, $3)",
        id.as_uuid(),
        action,
        storable(details, MAX_DETAILS)
    );
    note.execute(connection).await?;
    Ok(())
}
