//! What placement must know of a job that is not in its row: its model's licence and size, and which of the
//! jobs that it waits for were cancelled.

use std::collections::HashMap;

use seedfarm_core::JobId;
use sqlx::PgConnection;

use crate::database::Store;
use crate::error::Result;
use crate::value::natural;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobContext {
    /// The licence of its model, as the manifest spells it.
    pub licence: Option<String>,
    /// Bytes of its model's weights.
    pub weights_bytes: u64,
    /// Those of the jobs that it waits for that were cancelled.
    pub cancelled: Vec<JobId>,
}

impl Store {
    /// The context of one job; an empty one for an unknown job.
    pub async fn job_context(&self, job: JobId) -> Result<JobContext> {
        let mut connection = self.pool.acquire().await?;
        Ok(contexts(&mut connection, &[job]).await?.remove(&job).unwrap_or_default())
    }
}

/// The contexts of these jobs.
pub(crate) async fn contexts(
    connection: &mut PgConnection,
    jobs: &[JobId],
) -> Result<HashMap<JobId, JobContext>> {
    let rows = sqlx::query!(
        r#"-- contexts
        SELECT j.id, m.manifest ->> 'licence' AS licence,
            coalesce((m.manifest ->> 'weights_bytes')::bigint, 0) AS "weights_bytes!",
            ARRAY(SELECT d.id FROM jobs d WHERE d.id = ANY(j.after || j.after_images) AND d.state = 'cancelled')
                AS "cancelled!"
        FROM jobs j JOIN models m ON m.name = j.model_name AND m.digest = j.model_digest
        WHERE j.id = ANY($1)"#,
        &jobs.iter().map(JobId::as_uuid).collect::<Vec<_>>()
    );
    let rows = rows.fetch_all(connection).await?.into_iter().map(|row| {
        let context = JobContext {
            licence: row.licence,
            weights_bytes: natural(row.weights_bytes)?,
            cancelled: row.cancelled.into_iter().map(JobId::from_uuid).collect(),
        };
        Ok((JobId::from_uuid(row.id), context))
    });
    rows.collect()
}
