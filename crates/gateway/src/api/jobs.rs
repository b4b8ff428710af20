//! `/jobs`: list, look at one, cancel, pause, resume.

use axum::Json;
use axum::extract::{Path, Query};
use seedfarm_proto::{json, v1};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, list as list_of, whole};
use crate::caller::Caller;

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    with_replays: bool,
}

pub(crate) async fn list(caller: Caller, Query(query): Query<ListQuery>) -> Answer {
    let request = v1::ListJobsRequest { limit: query.limit, with_replays: query.with_replays };
    let jobs = caller.jobs().list_jobs(request).await?.into_inner().jobs;
    Ok(Json(list_of(&jobs, json::job)))
}

pub(crate) async fn get(caller: Caller, Path(job_id): Path<String>) -> Answer {
    let found = caller.jobs().get_job(v1::GetJobRequest { job_id }).await?.into_inner();
    Ok(Json(json!({ "job": whole(found.job, json::job), "dead": list_of(&found.dead, json::dead) })))
}

pub(crate) async fn cancel(caller: Caller, Path(job_id): Path<String>) -> Answer {
    let job = caller.jobs().cancel_job(v1::CancelJobRequest { job_id }).await?.into_inner().job;
    Ok(Json(whole(job, json::job)))
}

pub(crate) async fn pause(caller: Caller, Path(job_id): Path<String>) -> Answer {
    let job = caller.jobs().pause_job(v1::PauseJobRequest { job_id }).await?.into_inner().job;
    Ok(Json(whole(job, json::job)))
}

pub(crate) async fn resume(caller: Caller, Path(job_id): Path<String>) -> Answer {
    let job = caller.jobs().resume_job(v1::ResumeJobRequest { job_id }).await?.into_inner().job;
    Ok(Json(whole(job, json::job)))
}
