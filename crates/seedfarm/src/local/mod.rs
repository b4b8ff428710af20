//! Farms in this process: a coordinator, and where asked for a worker beside it.

pub mod coordinator;
pub mod package;
pub mod worker;

use std::time::Duration;

use anyhow::{Context, Result};
use seedfarm_runtime::CancellationToken;
use tokio::task::JoinHandle;

use self::coordinator::{LocalCoordinator, Setup};
use crate::args::{DeviceArgs, FetchArgs, ModelArgs, OwnerArgs};

/// How long a worker may take to leave before its end is no longer waited for.
const WORKER_GRACE: Duration = Duration::from_secs(45);

/// A coordinator and a worker, connected over a real socket.
#[derive(Debug)]
pub struct LocalFarm {
    /// The coordinator.
    pub coordinator: LocalCoordinator,
    worker: JoinHandle<Result<()>>,
    worker_stop: CancellationToken,
}

impl LocalFarm {
    /// Starts both.
    ///
    /// # Errors
    /// If either cannot start; nothing stays behind then.
    pub async fn start(
        setup: Setup,
        models: &ModelArgs,
        devices: &DeviceArgs,
        owner: &OwnerArgs,
    ) -> Result<Self> {
        let data_dir = setup.data_dir.clone();
        let coordinator = LocalCoordinator::start(setup).await?;
        let worker_stop = CancellationToken::new();
        let worker = worker::Setup {
            coordinators: vec![coordinator.url.clone()],
            authority: None,
            token: coordinator.worker_token.clone(),
            name: worker::host_name(),
            data_dir,
        };
        let started = worker.config(models, devices, &FetchArgs::default(), owner);
        let config = match started {
            Ok(config) => config,
            Err(error) => {
                coordinator.stop().await?;
                return Err(error);
            }
        };
        let stop = worker_stop.clone();
        let worker = tokio::spawn(async move { Ok(seedfarm_worker::run(config, stop).await?) });
        Ok(Self { coordinator, worker, worker_stop })
    }

    /// Waits until the coordinator or the worker ends by itself, which neither should.
    ///
    /// # Errors
    /// What ended it.
    pub async fn ended(&mut self) -> Result<()> {
        tokio::select! {
            ended = self.coordinator.ended() => ended,
            ended = &mut self.worker => ended.context("the worker panicked")?,
        }
    }

    /// Stops the worker, which hands back what it has not rendered, and then the coordinator.
    ///
    /// # Errors
    /// If the database could not be stopped cleanly.
    pub async fn stop(self) -> Result<()> {
        self.worker_stop.cancel();
        if !self.worker.is_finished() {
            match tokio::time::timeout(WORKER_GRACE, self.worker).await {
                Ok(Ok(Err(error))) => {
                    tracing::warn!(error = %crate::failure::flatten(&error), "the worker failed")
                }
                Ok(Err(error)) => tracing::error!(%error, "the worker panicked"),
                Err(_) => tracing::warn!("the worker did not leave in time"),
                Ok(Ok(Ok(()))) => {}
            }
        }
        self.coordinator.stop().await
    }
}
