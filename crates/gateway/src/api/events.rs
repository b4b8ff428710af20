//! `GET /jobs/{job}/events`: a job's changes as server-sent events, until it is final.

use axum::extract::Path;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use seedfarm_proto::{json, v1};
use serde_json::json;
use tonic::Status;

use crate::caller::Caller;
use crate::error::ApiError;

/// Each event is `job`; its data is the job with its rate, leases and workers. A break of the stream
/// from the coordinator's side is an event `error`.
pub(crate) async fn events(
    caller: Caller,
    Path(job_id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>>>, ApiError> {
    let stop = caller.shutdown.clone();
    let request = v1::WatchJobRequest { job_id, previews: false };
    let changes = caller.jobs().watch_job(request).await?.into_inner();
    let events = changes.map(event).take_until(stop.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn event(change: Result<v1::WatchJobResponse, Status>) -> Result<Event, axum::Error> {
    match change {
        Ok(change) => Event::default().event("job").json_data(json!({
            "job": change.job.as_ref().map(json::job),
            "images_per_second": change.images_per_second,
            "leases": change.leases,
            "workers": change.workers,
        })),
        Err(status) => Event::default().event("error").json_data(json!({ "message": status.message() })),
    }
}
