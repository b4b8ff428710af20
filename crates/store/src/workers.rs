//! Who renders.

use seedfarm_core::WorkerId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;
use crate::value::{natural, storable};

/// Most bytes of a worker's name and version that are kept.
const MAX_TEXT: usize = 200;

/// A worker as it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorker {
    /// Its id, which it keeps over restarts.
    pub id: WorkerId,
    /// Its name for people.
    pub name: String,
    /// Its program's version.
    pub version: String,
}

/// A worker as the farm knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// Its name for people.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// When it first came, in milliseconds since 1970-01-01 UTC.
    pub first_seen_ms: i64,
    /// When it was last heard of, in milliseconds since 1970-01-01 UTC.
    pub last_seen_ms: i64,
    /// Images it has made since the beginning.
    pub images: u64,
    /// Time its devices took for them, in milliseconds.
    pub device_ms: u64,
}

impl Store {
    /// Stores a worker, or what has changed of it. It must be stored before it is given a lease.
    pub async fn upsert_worker(&self, worker: &NewWorker) -> Result<()> {
        let upsert = sqlx::query!(
            "-- upsert_worker
            INSERT INTO workers (id, name, version) VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE
            SET name = excluded.name, version = excluded.version, last_seen = now()",
            worker.id.as_uuid(),
            storable(&worker.name, MAX_TEXT),
            storable(&worker.version, MAX_TEXT)
        );
        upsert.execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that these workers were heard of just now.
    pub async fn touch_workers(&self, workers: &[WorkerId]) -> Result<()> {
        let ids: Vec<Uuid> = workers.iter().map(WorkerId::as_uuid).collect();
        let touch = sqlx::query!(
            "-- touch_workers
            WITH mine AS MATERIALIZED (
                SELECT id FROM workers WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE workers SET last_seen = now() FROM mine WHERE workers.id = mine.id",
            &ids
        );
        touch.execute(&self.pool).await?;
        Ok(())
    }

    /// Every worker that ever came, the one last heard of first.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>> {
        let rows = sqlx::query!(
            r#"-- workers
            SELECT w.id, w.name, w.version,
                (extract(epoch FROM w.first_seen) * 1000)::bigint AS "first_seen_ms!",
                (extract(epoch FROM w.last_seen) * 1000)::bigint AS "last_seen_ms!",
                coalesce(t.images, 0) AS "images!", coalesce(t.device_ms, 0) AS "device_ms!"
            FROM workers w LEFT JOIN worker_tallies t ON t.worker_id = w.id
            ORDER BY w.last_seen DESC, w.id"#
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            Ok(WorkerRow {
                id: WorkerId::from_uuid(row.id),
                name: row.name,
                version: row.version,
                first_seen_ms: row.first_seen_ms,
                last_seen_ms: row.last_seen_ms,
                images: natural(row.images)?,
                device_ms: natural(row.device_ms)?,
            })
        });
        rows.collect()
    }
}

/// What one worker made in one batch of completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) images: i64,
    pub(crate) device_ms: i64,
}

/// Adds to what workers have made, for the completions lane.
pub(crate) async fn bump_tallies(
    connection: &mut PgConnection,
    tallies: impl Iterator<Item = (WorkerId, Tally)>,
) -> Result<()> {
    let (ids, tallies): (Vec<Uuid>, Vec<Tally>) =
        tallies.map(|(worker, tally)| (worker.as_uuid(), tally)).unzip();
    let images: Vec<i64> = tallies.iter().map(|tally| tally.images).collect();
    let device_ms: Vec<i64> = tallies.iter().map(|tally| tally.device_ms).collect();
    let bump = sqlx::query!(
        "-- bump_tallies
        INSERT INTO worker_tallies (worker_id, images, device_ms)
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[])
        ON CONFLICT (worker_id) DO UPDATE
        SET images = worker_tallies.images + excluded.images,
            device_ms = worker_tallies.device_ms + excluded.device_ms",
        &ids,
        &images,
        &device_ms
    );
    bump.execute(connection).await?;
    Ok(())
}
