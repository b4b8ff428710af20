//! What the owner of a machine allows.

use std::path::PathBuf;

use clap::Args;
use seedfarm_core::terms::Tag;

/// The owner's limits of a worker.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Owner")]
pub struct OwnerArgs {
    /// File of the owner's limits; without it, worker/owner.toml in the data folder, where there is one
    ///
    /// It is read again when it changes. See 'seedfarm worker limits --example'.
    #[arg(long, value_name = "FILE", env = "SEEDFARM_LIMITS", hide_env_values = true)]
    pub limits: Option<PathBuf>,

    /// Words that the worker bears besides those in the file, separated by commas, such as pool:night
    #[arg(long, value_name = "LIST", value_delimiter = ',', env = "SEEDFARM_TAGS", hide_env_values = true)]
    pub tags: Vec<Tag>,
}
