//! A worker's configuration from options.

use std::path::PathBuf;

use anyhow::Result;
use seedfarm_runtime::endpoint;
use seedfarm_worker::WorkerConfig;

use crate::args::{DeviceArgs, FetchArgs, ModelArgs, OwnerArgs};
use crate::memory;

/// What a worker in this process is started with, besides its devices and models.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Addresses of coordinators that stand in for one another.
    pub coordinators: Vec<String>,
    /// The certificate authority to trust instead of the web's.
    pub authority: Option<PathBuf>,
    /// The farm's worker token.
    pub token: String,
    /// A name for people.
    pub name: String,
    /// Where its id and its outbox lie.
    pub data_dir: PathBuf,
}

impl Setup {
    /// The worker's configuration.
    ///
    /// # Errors
    /// If an address is none, or a model folder that was named holds no model.
    pub fn config(
        self,
        models: &ModelArgs,
        devices: &DeviceArgs,
        fetching: &FetchArgs,
        owner: &OwnerArgs,
    ) -> Result<WorkerConfig> {
        let coordinators = endpoint::endpoints(&self.coordinators, self.authority.as_deref())?;
        let fetches = fetching.fetch_models.is_some_and(|bytes| bytes > 0);
        if !fetches {
            // The worker looks for itself, for adapters too; here it is only made sure that there is a model.
            models.existing_folders()?;
        }
        Ok(WorkerConfig {
            model_dirs: models.search_folders(),
            devices: devices.devices.clone(),
            threads: devices.threads,
            batch: devices.batch.map(|batch| batch as usize),
            previews: devices.previews,
            model_cache_bytes: fetching.fetch_models,
            model_cache_dir: fetching.model_cache.clone(),
            limits_file: owner.limits.as_deref().map(std::path::absolute).transpose()?,
            tags: owner.tags.clone(),
            give_back_memory: memory::give_back,
            ..WorkerConfig::new(coordinators, self.token, self.name, self.data_dir)
        })
    }
}

/// This machine's name, for want of a better one.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
}
