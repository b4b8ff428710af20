//! What any database server, private or not, must promise before work is acknowledged from it.

use sqlx::PgConnection;

use super::binaries::MINIMUM_MAJOR;
use super::error::ClusterError;

/// Checks that the server is new enough and that it flushes what it acknowledges, so that a power
/// cut cannot destroy the database. Returns its version, such as `15.18`.
///
/// `synchronous_commit` is not checked: off, it may lose the newest commits and corrupts nothing.
/// Nor is `full_page_writes`, which file systems without torn pages do not need.
///
/// # Errors
/// [`ClusterError::ServerTooOld`], [`ClusterError::NotDurable`], or [`ClusterError::Query`] if
/// the server does not answer.
pub async fn require_durable(connection: &mut PgConnection) -> Result<String, ClusterError> {
    let (number, version, fsync): (i32, String, bool) = sqlx::query_as(
        "-- require_durable
         select current_setting('server_version_num')::int4,
                split_part(current_setting('server_version'), ' ', 1),
                current_setting('fsync')::bool",
    )
    .fetch_one(connection)
    .await
    .map_err(ClusterError::Query)?;
    if number / 10_000 < MINIMUM_MAJOR as i32 {
        return Err(ClusterError::ServerTooOld { version, minimum: MINIMUM_MAJOR });
    }
    if !fsync {
        return Err(ClusterError::NotDurable);
    }
    Ok(version)
}
