//! Second leases of late ranges: whichever of the two ends first counts, the other verifies it for nothing.
//!
//! The first lease holds its images, the twin none. Where the first ends while the twin is out, the twin takes
//! its place with all that has no result yet; where the twin ends first, the first goes on. So nothing is ever
//! given back while somebody renders it.

use std::collections::BTreeSet;

use seedfarm_core::{ImageRange, JobId};
use sqlx::PgConnection;

use crate::claims::Claim;
use crate::completions::Held;
use crate::error::Result;
use crate::value::{index, range};

/// The images of a lease, by which a twin and its first are told to belong together.
pub(crate) type Place = (JobId, ImageRange);

/// Marks the leases that are to get a twin, where they are out, have none, and nobody ends them just now.
/// The caller has locked their jobs.
pub(crate) async fn mark_twinned(
    connection: &mut PgConnection,
    claims: &[&Claim],
) -> Result<BTreeSet<Place>> {
    if claims.is_empty() {
        return Ok(BTreeSet::new());
    }
    let update = sqlx::query!(
        "-- mark_twinned
        WITH wanted AS MATERIALIZED (
            SELECT l.id FROM leases l
            JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::int[], $5::uuid[])
                AS c (job, lo, hi, attempt, worker)
                ON l.job_id = c.job AND l.lo = c.lo AND l.hi = c.hi AND l.attempt = c.attempt
            JOIN jobs ON jobs.id = l.job_id AND jobs.state = 'active'
            WHERE NOT l.twin AND NOT l.twinned AND l.worker_id <> c.worker
            ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
        )
        UPDATE leases SET twinned = true FROM wanted WHERE leases.id = wanted.id
        RETURNING leases.job_id, leases.lo, leases.hi",
        &claims.iter().map(|claim| claim.job.as_uuid()).collect::<Vec<_>>(),
        &claims.iter().map(|claim| index(claim.range.lo())).collect::<Vec<_>>(),
        &claims.iter().map(|claim| index(claim.range.hi())).collect::<Vec<_>>(),
        &claims.iter().map(|claim| claim.attempt.0).collect::<Vec<_>>(),
        &claims.iter().map(|claim| claim.worker.as_uuid()).collect::<Vec<_>>()
    );
    let rows = update.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok((JobId::from_uuid(row.job_id), range(row.lo, row.hi)?))).collect()
}

/// The places of leases that are over which somebody else goes on with; a twin takes the place of its first.
///
/// Of two leases of one place that are over at once, the first speaks for both: the twin's place counts as taken.
pub(crate) async fn still_out(connection: &mut PgConnection, over: &[&Held]) -> Result<BTreeSet<Place>> {
    let paired: Vec<&&Held> = over.iter().filter(|held| held.paired).collect();
    if paired.is_empty() {
        return Ok(BTreeSet::new());
    }
    let update = sqlx::query!(
        "-- still_out
        UPDATE leases SET twin = false, twinned = true
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS o (job, lo, hi)
        WHERE job_id = o.job AND leases.lo = o.lo AND leases.hi = o.hi AND (twin OR twinned)
        RETURNING job_id, leases.lo, leases.hi",
        &paired.iter().map(|held| held.job.as_uuid()).collect::<Vec<_>>(),
        &paired.iter().map(|held| index(held.range.lo())).collect::<Vec<_>>(),
        &paired.iter().map(|held| index(held.range.hi())).collect::<Vec<_>>()
    );
    let rows = update.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok((JobId::from_uuid(row.job_id), range(row.lo, row.hi)?))).collect()
}

/// Whether another lease has what `held` leaves: one that is out, or one that is over with it and speaks
/// for both.
pub(crate) fn is_taken(held: &Held, out: &BTreeSet<Place>, over: &[&Held]) -> bool {
    let place = (held.job, held.range);
    let spoken =
        |other: &&Held| (other.job, other.range) == place && other.lease != held.lease && !other.twin;
    out.contains(&place) || (held.twin && over.iter().any(spoken))
}
