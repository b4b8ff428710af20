//! The private PostgreSQL cluster: used where no `DATABASE_URL` is given.
//!
//! It is an ordinary PostgreSQL server, run from installed programs on a Unix socket in the data
//! folder, so that the same statements and the same durability hold as on a server of one's own.
//! It opens no TCP port, sees nothing of the user's environment, ends when this process ends and
//! leaves every other cluster on the machine alone.
//!
//! This module knows nothing of Seedfarm's tables: it hands out [`PgConnectOptions`] for an
//! empty or a kept database.
//!
//! ```text
//! <data_dir>/postgres.lock      held by the process that started the server
//! <data_dir>/postgres/          owned by the server's user, mode 0700
//!     pgdata/                   the cluster
//!     socket/                   its Unix socket (below /tmp if the path is too long)
//!     server.log                what the server wrote
//! ```

mod account;
mod binaries;
mod check;
mod error;
mod folder;
mod initdb;
mod launch;
mod log;
mod pidfile;
mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};

pub use binaries::MINIMUM_MAJOR;
pub use check::require_durable;
pub use error::ClusterError;
pub use folder::default_data_dir;

use account::Account;
use folder::{Hold, Layout, PORT};
use server::{Launch, Server};

/// The role that owns everything in a private cluster.
const SUPERUSER: &str = "seedfarm";
/// The database that [`PrivateCluster::options`] leads to.
const DATABASE: &str = "seedfarm";

/// When a commit is acknowledged. Neither can corrupt the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on disk: it survives a power cut.
    #[default]
    Full,
    /// A moment before (`synchronous_commit=off`): a power cut can lose the newest commits; a
    /// crash of Seedfarm cannot.
    Relaxed,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct PrivateConfig {
    /// The data folder; created if missing. See [`default_data_dir`].
    pub data_dir: PathBuf,
    /// The folder of `postgres` and `initdb`; `None` looks for them.
    pub pg_bin: Option<PathBuf>,
    /// When a commit is acknowledged.
    pub durability: Durability,
}

/// Installed PostgreSQL programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The folder of `postgres` and `initdb`.
    pub folder: PathBuf,
    /// Their version, such as `15.18`.
    pub version: String,
}

/// The programs that [`PrivateCluster::start`] would run for this data folder; changes nothing.
///
/// # Errors
/// [`ClusterError::NoBinaries`] and its neighbours, with the line that installs what is missing.
pub fn find_programs(data_dir: &Path, pg_bin: Option<&Path>) -> Result<Programs, ClusterError> {
    let layout = Layout::of(data_dir);
    let account = Account::choose(&layout.pgdata)?;
    let major = layout.cluster_major()?;
    let cluster = major.map(|major| (layout.pgdata.as_path(), major));
    binaries::find(pg_bin, cluster, &account).map(Into::into)
}

/// A running private cluster.
///
/// Call [`stop`](Self::stop) at the end. Dropping it stops the server too and blocks meanwhile;
/// if the process is killed, the kernel tells the server to stop.
#[derive(Debug)]
pub struct PrivateCluster {
    // Fields are dropped in this order: the folder is let go when the server has ended.
    server: Server,
    layout: Layout,
    durability: Durability,
    version: String,
    _hold: Hold,
}

impl PrivateCluster {
    /// Starts the cluster in `config.data_dir`, making it first if there is none.
    ///
    /// # Errors
    /// [`ClusterError`], each with the way out; nothing is left half-made.
    pub async fn start(config: PrivateConfig) -> Result<Self, ClusterError> {
        refuse_ambient_options(std::env::var("PGOPTIONS").ok())?;
        let started = tokio::task::spawn_blocking(move || Self::start_blocking(&config));
        let mut cluster = match started.await {
            Ok(started) => started?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        cluster.version = cluster.check_and_create_database().await?;
        tracing::info!(
            postgres.version = %cluster.version,
            postgres.pid = cluster.server.pid(),
            data_dir = %cluster.layout.data_dir.display(),
            "private database started"
        );
        Ok(cluster)
    }

    fn start_blocking(config: &PrivateConfig) -> Result<Self, ClusterError> {
        let layout = Layout::below(&config.data_dir)?;
        let hold = Hold::take(&layout.data_dir)?;
        let account = Account::choose(&layout.pgdata)?;
        let major = layout.cluster_major()?;
        let cluster = major.map(|major| (layout.pgdata.as_path(), major));
        let binaries = binaries::find(config.pg_bin.as_deref(), cluster, &account)?;
        layout.prepare(&account)?;
        let launch = Launch { binaries: &binaries, account: &account, layout: &layout };
        if major.is_none() {
            initdb::create_cluster(&launch)?;
        }
        let settings = server::settings(&layout.socket, config.durability);
        let server = Server::start(&launch, &settings)?;
        Ok(Self { server, layout, durability: config.durability, version: String::new(), _hold: hold })
    }

    /// Asserts what the settings promise and creates the database. Returns the server's version.
    async fn check_and_create_database(&self) -> Result<String, ClusterError> {
        let mut admin =
            options(&self.layout.socket, "postgres").connect().await.map_err(ClusterError::Query)?;
        let version = require_durable(&mut admin).await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut admin)
            .await
            .map_err(ClusterError::Query)?;
        if !exists {
            sqlx::query("create database seedfarm").execute(&mut admin).await.map_err(ClusterError::Query)?;
        }
        admin.close().await.map_err(ClusterError::Query)?;
        Ok(version)
    }

    /// How to connect to the database `seedfarm` of this cluster, whatever PG* variables say.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        options(&self.layout.socket, DATABASE)
    }

    /// The server's version, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The data folder, absolute.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.layout.data_dir
    }

    /// The folder of the server's Unix socket, for `psql -h`.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.layout.socket
    }

    /// Process id of the server.
    #[must_use]
    pub fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// One line that tells a person what this database is and what it survives.
    #[must_use]
    pub fn describe(&self) -> String {
        let promise = match self.durability {
            Durability::Full => "survives crash and power loss of a disk that honours flush",
            Durability::Relaxed => {
                "survives crash, but a power loss may take the newest commits (synchronous_commit off)"
            }
        };
        format!(
            "private PostgreSQL {} in {}, fsync on, {promise}; not replicated, not for more than one host",
            self.version,
            self.layout.home.display()
        )
    }

    /// Stops the server cleanly and lets the folder go.
    ///
    /// # Errors
    /// [`ClusterError::StopTimedOut`] if it does not end; its data is safe all the same.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let stopped = tokio::task::spawn_blocking(move || {
            let mut cluster = self;
            cluster.server.stop()
        });
        match stopped.await {
            Ok(stopped) => stopped,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        // `server` is dropped after this body, so the socket folder must wait for it here.
        if self.server.stop().is_ok() {
            self.layout.clear_socket();
        }
    }
}

/// How to connect through the socket in a folder, whatever PG* variables say.
fn options(socket: &Path, database: &str) -> PgConnectOptions {
    // The constructor reads PG* variables, so every field that one can set is set here.
    // PGOPTIONS cannot be unset that way and is refused at start; certificates are unused
    // without TLS.
    PgConnectOptions::new_without_pgpass()
        .host("localhost")
        .port(PORT)
        .socket(socket)
        .username(SUPERUSER)
        .password("")
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .application_name("seedfarm")
}

fn refuse_ambient_options(value: Option<String>) -> Result<(), ClusterError> {
    match value {
        Some(value) if !value.trim().is_empty() => Err(ClusterError::AmbientOptions { value }),
        _ => Ok(()),
    }
}
