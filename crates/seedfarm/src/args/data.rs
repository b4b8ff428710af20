//! The data folder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

/// Where this process keeps what it must not lose.
#[derive(Debug, Clone, Default, Args)]
pub struct DataArgs {
    /// Data folder: database, pictures, tokens, a worker's identity
    ///
    /// Without it: /var/lib/seedfarm for root, else $XDG_DATA_HOME/seedfarm or ~/.local/share/seedfarm.
    #[arg(long, value_name = "DIR", env = "SEEDFARM_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The folder asked for, or the default one; absolute.
    ///
    /// # Errors
    /// If there is no home folder to put a default in.
    pub fn resolve(&self) -> Result<PathBuf> {
        let folder = match &self.data_dir {
            Some(folder) => folder.clone(),
            None => seedfarm_store::private::default_data_dir()?,
        };
        Ok(std::path::absolute(folder)?)
    }
}

/// The file of the token that clients show, in a data folder.
pub const CLIENT_TOKEN: &str = "client.token";
/// The file of the token that workers show, in a data folder.
pub const WORKER_TOKEN: &str = "worker.token";
