//! Calls that are made again until one is answered, or the client's time is over.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use seedfarm_proto::v1;
use seedfarm_proto::v1::job_service_client::JobServiceClient;
use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status};

use crate::chaos::wire::{self, CALL, Places, Wire};

/// Pause before a call is made again.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) type Jobs = JobServiceClient<Wire>;

/// See the module's documentation.
pub(super) struct Calls {
    places: Places<Jobs>,
    deadline: Instant,
}

impl Calls {
    pub(super) fn new(urls: &[String], token: &str, time: Duration) -> Result<Self> {
        let places = urls.iter().map(|url| wire::jobs(url, token)).collect::<Result<Vec<_>>>()?;
        Ok(Self { places: Places::new(places)?, deadline: Instant::now() + time })
    }

    /// Whether the client's time is over.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Makes a call; `None` says that what it asks for is not there.
    pub(super) async fn ask<T, F>(&mut self, call: impl Fn(Jobs) -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = "no call was made".to_owned();
        while !self.is_late() {
            match timeout(CALL, call(self.places.now().clone())).await {
                Ok(Ok(response)) => return Ok(Some(response.into_inner())),
                Ok(Err(status)) if status.code() == Code::NotFound && !is_of_model(&status) => {
                    return Ok(None);
                }
                Ok(Err(status)) => last = format!("{:?}: {}", status.code(), status.message()),
                Err(_) => last = format!("no answer within {} s", CALL.as_secs()),
            }
            self.places.rotate();
            tokio::time::sleep(PAUSE).await;
        }
        Err(anyhow!("gave up: {last}"))
    }

    pub(super) async fn job(&mut self, id: &str) -> Result<Option<v1::Job>> {
        let request = v1::GetJobRequest { job_id: id.to_owned() };
        let answer = self.ask(|mut jobs| {
            let request = request.clone();
            async move { jobs.get_job(request).await }
        });
        Ok(answer.await?.and_then(|answer| answer.job))
    }

    /// Every image of a job that has a result.
    pub(super) async fn images(&mut self, id: &str) -> Result<Vec<v1::Image>> {
        let (mut images, mut from) = (Vec::new(), Some(0));
        while let Some(from_index) = from {
            let request = v1::ListImagesRequest { job_id: id.to_owned(), from_index, limit: 0 };
            let answer = self.ask(|mut jobs| {
                let request = request.clone();
                async move { jobs.list_images(request).await }
            });
            let page = answer.await?.unwrap_or_default();
            images.extend(page.images);
            from = page.next_index;
        }
        Ok(images)
    }
}

/// A model that no worker has shown yet is not known: the call is made again.
fn is_of_model(status: &Status) -> bool {
    status.message().contains("model")
}
