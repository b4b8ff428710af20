//! Where a coordinator keeps what it stores.

use std::path::PathBuf;

use clap::Args;

/// The database.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Storage")]
pub struct DatabaseArgs {
    /// A running PostgreSQL (15 or newer), such as postgres://user@host/seedfarm
    ///
    /// Without it, Seedfarm runs a private one in the data folder.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Folder of the programs postgres and initdb, for the private database
    #[arg(long, value_name = "DIR", env = "SEEDFARM_PG_BIN", hide_env_values = true)]
    pub pg_bin: Option<PathBuf>,
}

/// The database, the pictures, and what carries progress.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Storage")]
pub struct StorageArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Where pictures are kept: a folder, or s3://bucket/prefix
    ///
    /// Without it: blobs in the data folder.
    #[arg(long, value_name = "PLACE", env = "SEEDFARM_BLOBS", hide_env_values = true)]
    pub blobs: Option<String>,

    /// A Redis that carries progress to other coordinators; a single one needs none
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
}
