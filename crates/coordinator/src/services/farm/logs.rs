//! Listing what workers told of their attempts.

use std::fmt::Display;
use std::str::FromStr;

use seedfarm_proto::{error, v1};
use seedfarm_store::{LogFilter, LogRow};
use tonic::Status;

use crate::farm::Farm;
use crate::faults;
use crate::services::read;

/// Logs answered when a request names no limit.
const DEFAULT: u32 = 20;
/// Most logs of one answer: of 64 KiB each, they fit into a message.
const MOST: u32 = 200;

pub(super) async fn list(farm: &Farm, request: &v1::ListLogsRequest) -> Result<v1::ListLogsResponse, Status> {
    let limit = if request.limit == 0 { DEFAULT } else { request.limit.min(MOST) };
    let rows = farm.store.logs(&filter(request)?, limit).await.map_err(faults::of_store)?;
    let full = rows.len() == limit as usize;
    let next = rows.last().filter(|_| full).map_or(0, |row| row.id);
    Ok(v1::ListLogsResponse { logs: rows.into_iter().map(log).collect(), next })
}

fn filter(request: &v1::ListLogsRequest) -> Result<LogFilter, Status> {
    let job = given(&request.job_id)?;
    if request.image.is_some() && job.is_none() {
        return Err(error::missing("the job of the image"));
    }
    Ok(LogFilter {
        job,
        image: request.image,
        worker: given(&request.worker_id)?,
        failed: request.failed,
        before: (request.before > 0).then_some(request.before),
    })
}

/// An id, where one is given.
fn given<T: FromStr<Err: Display>>(id: &str) -> Result<Option<T>, Status> {
    Some(id).filter(|id| !id.is_empty()).map(read).transpose()
}

fn log(row: LogRow) -> v1::AttemptLog {
    let LogRow { log, created_at_ms, .. } = row;
    v1::AttemptLog {
        job_id: log.job.to_string(),
        lo: log.range.lo(),
        hi: log.range.hi(),
        attempt: log.attempt.0,
        worker_id: log.worker.to_string(),
        device: log.device,
        outcome: log.outcome,
        text: log.text,
        created_at_ms,
    }
}
