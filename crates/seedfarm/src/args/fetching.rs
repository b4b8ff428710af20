//! What a worker may fetch from the farm.

use std::path::PathBuf;

use clap::Args;

use crate::human;

/// Models that come from the farm.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Models from the farm")]
pub struct FetchArgs {
    /// Fetch models that jobs wait for, and let them take so much of the disk, such as 40GB
    ///
    /// The farm hands out what was added with 'seedfarm models add'. Those not used for longest make room
    /// for others. Such a worker may start without any model of its own.
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes)]
    #[arg(env = "SEEDFARM_FETCH_MODELS", hide_env_values = true)]
    pub fetch_models: Option<u64>,

    /// Folder for fetched models, which workers on one machine may share; without it, one in the data folder
    #[arg(long, value_name = "DIR", env = "SEEDFARM_MODEL_CACHE", hide_env_values = true)]
    #[arg(requires = "fetch_models")]
    pub model_cache: Option<PathBuf>,
}
