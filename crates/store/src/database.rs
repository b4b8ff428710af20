//! Opening the farm's database: its own, or one that was named.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Postgres, Transaction};

use crate::error::{Result, StoreError, is_transient};
use crate::private::{Durability, PrivateCluster, PrivateConfig, require_durable};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// How long a call waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server needs to notice within seconds that a coordinator's machine is gone, so that locks of
/// its do not hold up the next one; durations in seconds, or milliseconds where the name says timeout.
const SETTINGS: [(&str, &str); 6] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
    ("idle_in_transaction_session_timeout", "60000"),
    // No statement of the lanes or of a reader takes more than a fraction of a second; one that waits for
    // longer is cut off, and tried again as any fault that passes.
    ("statement_timeout", "30000"),
];

/// The farm's state. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) options: PgConnectOptions,
}

impl Store {
    /// Connects, makes sure that the server flushes what it acknowledges, and brings the tables up to
    /// date. Two lanes, submissions and readers want a connection each: give `max_connections` of at
    /// least 4.
    pub async fn open(options: PgConnectOptions, max_connections: u32) -> Result<Self> {
        let options = options.application_name("seedfarm").options(SETTINGS);
        let mut first = options.connect().await?;
        require_durable(&mut first).await?;
        // Migrations of large tables take their time.
        sqlx::query("SET statement_timeout = 0").execute(&mut first).await?;
        MIGRATIONS.run(&mut first).await?;
        first.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await?;
        Ok(Self { pool, options })
    }

    /// Begins to read the state as one moment has it.
    pub(crate) async fn begin_reading(&self) -> Result<Transaction<'static, Postgres>> {
        let mut reading = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        // A snapshot and a check read whole tables.
        sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut *reading).await?;
        Ok(reading)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Which database to open.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The address of a server, such as `postgres://user:password@host:5432/seedfarm`; `None` starts a
    /// private cluster.
    pub url: Option<String>,
    /// Where the private cluster lies.
    pub data_dir: PathBuf,
    /// Where PostgreSQL's programs lie; `None` looks for them.
    pub pg_bin: Option<PathBuf>,
    /// When the private cluster acknowledges a commit.
    pub durability: Durability,
    /// Connections at once.
    pub max_connections: u32,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    /// The tables.
    pub store: Store,
    /// The private cluster, where there is one; stop it last.
    pub cluster: Option<PrivateCluster>,
    /// One line for people.
    pub description: String,
}

/// Opens the database that is named, or starts the private one.
pub async fn open_database(config: DatabaseConfig) -> Result<Database> {
    match &config.url {
        Some(url) => open_named(url, config.max_connections).await,
        None => open_private(config).await,
    }
}

async fn open_named(url: &str, max_connections: u32) -> Result<Database> {
    // sqlx takes any scheme for its own.
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        let cause = "the address does not start with postgres:// or postgresql://";
        return Err(StoreError::Address(sqlx::Error::Configuration(cause.into())));
    }
    let options = PgConnectOptions::from_str(url).map_err(StoreError::Address)?;
    let description = describe(&options);
    let store = Store::open(options, max_connections).await.map_err(|error| match error {
        StoreError::Database(source) if is_transient(&source) => {
            StoreError::Unreachable { address: description.clone(), source }
        }
        other => other,
    })?;
    Ok(Database { store, cluster: None, description })
}

async fn open_private(config: DatabaseConfig) -> Result<Database> {
    let DatabaseConfig { data_dir, pg_bin, durability, max_connections, .. } = config;
    let cluster = PrivateCluster::start(PrivateConfig { data_dir, pg_bin, durability }).await?;
    let store = Store::open(cluster.options(), max_connections).await?;
    let description = cluster.describe();
    Ok(Database { store, cluster: Some(cluster), description })
}

/// Where a database is, without its password.
fn describe(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    format!("PostgreSQL at {host}, database {database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_holds_no_password() {
        let options = PgConnectOptions::from_str("postgres://me:secret@db.example:5433/farm").unwrap();
        assert_eq!(describe(&options), "PostgreSQL at db.example:5433, database farm");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_with_an_example() {
        let error = open_named("mysql://x", 4).await.unwrap_err();
        assert!(error.to_string().contains("postgres://user:password@host"), "{error}");
    }
}
