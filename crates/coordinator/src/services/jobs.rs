//! JobService.

mod artifact;
mod control;
mod images;
mod picture;
mod recipe;
mod submit;
mod terms;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use seedfarm_core::{JobId, JobTransition};
use seedfarm_proto::v1;
use seedfarm_proto::v1::job_service_server::JobService;
use tonic::{Request, Response, Status, Streaming};

use crate::farm::Farm;
use crate::faults::{self, not_found};
use crate::quotas::Caller;
use crate::wire;

use super::read;

pub(crate) use submit::seat;

/// Jobs answered when a request names no limit.
const DEFAULT_JOBS: u32 = 50;
/// Most jobs of one answer.
const MAX_JOBS: u32 = 1000;
/// Images answered when a request names no limit.
const DEFAULT_IMAGES: u32 = 1000;
/// Most images of one answer.
const MAX_IMAGES: u32 = 10_000;

/// Most dead images of one answer.
const MAX_DEAD: u32 = 1000;
/// Most images with warnings of one answer.
const MAX_WARNINGS: u32 = 1000;

/// Most changes of one answer.
const MAX_CHANGES: u32 = 1000;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// See [`JobService`].
pub(crate) struct Jobs(pub(crate) Arc<Farm>);

#[tonic::async_trait]
impl JobService for Jobs {
    async fn put_picture(
        &self,
        request: Request<Streaming<v1::PutPictureRequest>>,
    ) -> Result<Response<v1::PutPictureResponse>, Status> {
        picture::put(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        if let Some(&caller) = request.extensions().get::<Caller>() {
            self.0.submissions.admit(caller)?;
        }
        submit::submit(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        let job = stored(&self.0, id).await?;
        let dead = self.0.store.dead(id, MAX_DEAD).await.map_err(faults::of_store)?;
        let dead = dead.into_iter().map(wire::dead).collect();
        let warnings = self.0.store.warnings(id, MAX_WARNINGS).await.map_err(faults::of_store)?;
        let warnings = warnings.into_iter().map(wire::warnings).collect();
        Ok(Response::new(v1::GetJobResponse { job: Some(wire::job(&job)), dead, warnings }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let v1::ListJobsRequest { limit, with_replays } = request.into_inner();
        let limit = limit_of(limit, DEFAULT_JOBS, MAX_JOBS);
        let jobs = self.0.store.jobs(limit, with_replays).await.map_err(faults::of_store)?;
        Ok(Response::new(v1::ListJobsResponse { jobs: jobs.iter().map(wire::job).collect() }))
    }

    type WatchJobStream = Answers<v1::WatchJobResponse>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        watch::watch(&self.0, &request.into_inner()).await.map(Response::new)
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        let job = control::change(&self.0, id, JobTransition::Cancel).await?;
        Ok(Response::new(v1::CancelJobResponse { job: Some(job) }))
    }

    async fn pause_job(
        &self,
        request: Request<v1::PauseJobRequest>,
    ) -> Result<Response<v1::PauseJobResponse>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        let job = control::change(&self.0, id, JobTransition::Pause).await?;
        Ok(Response::new(v1::PauseJobResponse { job: Some(job) }))
    }

    async fn resume_job(
        &self,
        request: Request<v1::ResumeJobRequest>,
    ) -> Result<Response<v1::ResumeJobResponse>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        let job = control::change(&self.0, id, JobTransition::Resume).await?;
        Ok(Response::new(v1::ResumeJobResponse { job: Some(job) }))
    }

    async fn set_terms(
        &self,
        request: Request<v1::SetTermsRequest>,
    ) -> Result<Response<v1::SetTermsResponse>, Status> {
        let job = terms::set(&self.0, request.into_inner()).await?;
        Ok(Response::new(v1::SetTermsResponse { job: Some(job) }))
    }

    async fn retry_images(
        &self,
        request: Request<v1::RetryImagesRequest>,
    ) -> Result<Response<v1::RetryImagesResponse>, Status> {
        images::retry(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn skip_images(
        &self,
        request: Request<v1::SkipImagesRequest>,
    ) -> Result<Response<v1::SkipImagesResponse>, Status> {
        images::skip(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn list_changes(
        &self,
        request: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        let id = job_id(&request.into_inner().job_id)?;
        stored(&self.0, id).await?;
        let rows = self.0.store.control_log(id, MAX_CHANGES).await.map_err(faults::of_store)?;
        let changes = rows.into_iter().map(wire::change).collect();
        Ok(Response::new(v1::ListChangesResponse { changes }))
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let v1::ListImagesRequest { job_id: id, from_index, limit } = request.into_inner();
        let id = job_id(&id)?;
        stored(&self.0, id).await?;
        let limit = limit_of(limit, DEFAULT_IMAGES, MAX_IMAGES);
        let rows = self.0.store.images(id, from_index, limit + 1).await.map_err(faults::of_store)?;
        let next_index = rows.get(limit as usize).map(|row| row.id.index);
        let images = wire::images(&self.0, id, &rows[..rows.len().min(limit as usize)]).await?;
        Ok(Response::new(v1::ListImagesResponse { images, next_index }))
    }

    async fn get_recipe(
        &self,
        request: Request<v1::GetRecipeRequest>,
    ) -> Result<Response<v1::GetRecipeResponse>, Status> {
        recipe::get(&self.0, &request.into_inner().image_id).await.map(Response::new)
    }

    type FetchArtifactStream = Answers<v1::FetchArtifactResponse>;

    async fn fetch_artifact(
        &self,
        request: Request<v1::FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        artifact::fetch(&self.0, &request.into_inner().artifact_digest).await.map(Response::new)
    }
}

/// Reads a job's id.
pub(crate) fn job_id(text: &str) -> Result<JobId, Status> {
    read(text)
}

/// The limit that a request means.
pub(crate) fn limit_of(given: u32, default: u32, most: u32) -> u32 {
    if given == 0 { default } else { given.min(most) }
}

/// A job as the store has it.
async fn stored(farm: &Farm, id: JobId) -> Result<seedfarm_store::JobRow, Status> {
    let row = farm.store.job(id).await.map_err(faults::of_store)?;
    row.ok_or_else(|| not_found("JOB_NOT_FOUND", format!("{id} is unknown: list jobs to see what there is")))
}
