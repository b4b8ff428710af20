//! Who coordinates: where each replica is reached, and what it is.

use std::time::Duration;

use seedfarm_core::{CoordinatorId, Epoch};

use crate::database::Store;
use crate::error::Result;
use crate::value::storable;

/// Most bytes of an address that are kept.
const MAX_ADDRESS: usize = 300;

/// A coordinator as it announces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The process.
    pub id: CoordinatorId,
    /// Where others reach it.
    pub address: String,
    /// The epoch in which it is active; `None` while it stands by.
    pub epoch: Option<Epoch>,
}

/// A coordinator as the farm knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRow {
    /// What it said.
    pub announced: Announcement,
    /// Whether it said that it is active, in the epoch that is in force.
    pub is_active: bool,
    /// When it last said so, in milliseconds since 1970-01-01 UTC.
    pub seen_ms: i64,
}

impl Store {
    /// Says where a coordinator is and what it is, and forgets those that have said nothing for `forget_after`.
    pub async fn announce(&self, announcement: &Announcement, forget_after: Duration) -> Result<()> {
        let announce = sqlx::query!(
            "-- announce
            WITH forgotten AS (
                DELETE FROM coordinators WHERE id <> $1 AND seen < now() - make_interval(secs => $4)
            )
            INSERT INTO coordinators (id, address, epoch) VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE
            SET address = excluded.address, epoch = excluded.epoch, seen = now()",
            announcement.id.as_uuid(),
            storable(&announcement.address, MAX_ADDRESS),
            announcement.epoch.map(|epoch| epoch.0),
            forget_after.as_secs_f64()
        );
        announce.execute(&self.pool).await?;
        Ok(())
    }

    /// Forgets a coordinator that leaves.
    pub async fn renounce(&self, id: CoordinatorId) -> Result<()> {
        let renounce = sqlx::query!(
            "-- renounce
            DELETE FROM coordinators WHERE id = $1",
            id.as_uuid()
        );
        renounce.execute(&self.pool).await?;
        Ok(())
    }

    /// Every coordinator that announced itself, the active one first.
    pub async fn coordinators(&self) -> Result<Vec<CoordinatorRow>> {
        let rows = sqlx::query!(
            r#"-- coordinators
            SELECT id, address, epoch,
                coalesce(epoch = (SELECT max(epoch) FROM reign), false) AS "is_active!",
                (extract(epoch FROM seen) * 1000)::bigint AS "seen_ms!"
            FROM coordinators ORDER BY 4 DESC, address, id"#
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| CoordinatorRow {
            announced: Announcement {
                id: CoordinatorId::from_uuid(row.id),
                address: row.address,
                epoch: row.epoch.map(Epoch),
            },
            is_active: row.is_active,
            seen_ms: row.seen_ms,
        });
        Ok(rows.collect())
    }
}
