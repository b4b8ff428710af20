//! How much a check looked at.

use sqlx::PgConnection;

use crate::error::Result;
use crate::value::natural;

/// The number of rows that were held against the invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Jobs.
    pub jobs: u64,
    /// Images with a result.
    pub results: u64,
    /// Images given up.
    pub dead: u64,
    /// Ranges that wait to be leased again.
    pub ranges: u64,
    /// Leases that are out.
    pub leases: u64,
    /// Workers.
    pub workers: u64,
}

pub(super) async fn census(connection: &mut PgConnection) -> Result<Census> {
    let counts = sqlx::query!(
        r#"-- census
        SELECT (SELECT count(*) FROM jobs) AS "jobs!", (SELECT count(*) FROM results) AS "results!",
            (SELECT count(*) FROM dead) AS "dead!", (SELECT count(*) FROM ranges) AS "ranges!",
            (SELECT count(*) FROM leases) AS "leases!", (SELECT count(*) FROM workers) AS "workers!""#
    );
    let counts = counts.fetch_one(connection).await?;
    Ok(Census {
        jobs: natural(counts.jobs)?,
        results: natural(counts.results)?,
        dead: natural(counts.dead)?,
        ranges: natural(counts.ranges)?,
        leases: natural(counts.leases)?,
        workers: natural(counts.workers)?,
    })
}
