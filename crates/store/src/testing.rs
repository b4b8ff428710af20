//! Fresh databases for tests.
//!
//! `DATABASE_URL`, where set, names a server on which databases may be created. Where it is not
//! set, each test process runs one private cluster below the temporary folder. A cluster is kept
//! for the next process, as making one takes seconds and starting one does not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::private::{ClusterError, Durability, PrivateCluster, PrivateConfig};

/// Prefix of every database made here.
const PREFIX: &str = "seedfarm_test_";
/// How many test processes can run at once on one machine.
const SLOTS: u32 = 64;

/// An empty database of one test's own. It is dropped, with whatever is still connected, when
/// this value is.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: PgConnectOptions,
}

impl TestDatabase {
    /// Creates a database.
    ///
    /// # Panics
    /// If there is no server and none can be started; the message says why.
    pub async fn create() -> Self {
        let server = server_options().await;
        let name = format!("{PREFIX}{}", Uuid::from_bytes(fresh_bytes()).simple());
        let mut admin = server.connect().await.expect("the test server answers");
        let statement = format!("create database {name} template template0");
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await
            .expect("the test server lets us create a database");
        admin.close().await.expect("closed");
        Self { name, server }
    }

    /// How to connect to this database.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (name, server) = (self.name.clone(), self.server.clone());
        // A runtime of its own, as a drop may happen inside or outside of one.
        let dropped = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(
                async {
                    let mut admin = server.connect().await?;
                    drop_database(&mut admin, &name).await?;
                    admin.close().await
                },
            )
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) && !thread::panicking() {
            panic!("the test database {} was not dropped: {dropped:?}", self.name);
        }
    }
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let statement = format!("drop database if exists {name} with (force)");
    sqlx::query(AssertSqlSafe(statement)).execute(admin).await?;
    Ok(())
}

async fn server_options() -> PgConnectOptions {
    match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => {
            PgConnectOptions::from_str(&url).expect("DATABASE_URL is a postgres:// address")
        }
        _ => shared_cluster().await.options(),
    }
}

/// The cluster of this process. It lives in a static, which is never dropped; the kernel tells
/// the server to stop when the process ends.
async fn shared_cluster() -> &'static PrivateCluster {
    static CLUSTER: OnceCell<PrivateCluster> = OnceCell::const_new();
    CLUSTER
        .get_or_init(|| async {
            let cluster = start_in_a_free_slot().await;
            drop_leftovers(&cluster).await;
            cluster
        })
        .await
}

async fn start_in_a_free_slot() -> PrivateCluster {
    let parent = slots_folder();
    for slot in 0..SLOTS {
        let data_dir = parent.join(slot.to_string());
        match start(&data_dir).await {
            Ok(cluster) => return cluster,
            Err(ClusterError::FolderInUse { .. }) => {}
            Err(
                error @ (ClusterError::NoBinaries { .. }
                | ClusterError::Unreachable { .. }
                | ClusterError::AmbientOptions { .. }
                | ClusterError::DiskFull { .. }),
            ) => panic!("no test database: {error} (or run: cargo xtask setup)"),
            Err(error) => {
                // Nothing in it is of value: a cluster that does not start is made anew, once.
                eprintln!("making the test cluster anew: {error}");
                fs::remove_dir_all(data_dir.join("postgres")).expect("removed");
                return start(&data_dir).await.expect("a fresh test cluster");
            }
        }
    }
    panic!("all {SLOTS} test clusters below {} are in use", parent.display());
}

async fn start(data_dir: &Path) -> Result<PrivateCluster, ClusterError> {
    PrivateCluster::start(PrivateConfig {
        data_dir: data_dir.to_path_buf(),
        pg_bin: None,
        durability: Durability::Relaxed,
    })
    .await
}

/// `seedfarm-test-<uid>` below the temporary folder, which no other user may have made.
fn slots_folder() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let folder = std::env::temp_dir().join(format!("seedfarm-test-{uid}"));
    match fs::create_dir(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => panic!("cannot create {}: {error}", folder.display()),
    }
    let owner = fs::symlink_metadata(&folder).expect("it exists").uid();
    assert_eq!(owner, uid, "{} belongs to another user", folder.display());
    folder
}

/// Drops the databases of tests that were killed.
async fn drop_leftovers(cluster: &PrivateCluster) {
    let mut admin = cluster.options().connect().await.expect("the cluster answers");
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
            .bind(PREFIX)
            .fetch_all(&mut admin)
            .await
            .expect("the list of databases");
    for name in names {
        drop_database(&mut admin, &name).await.expect("dropped");
    }
    admin.close().await.expect("closed");
}

/// Bytes that no other test of any process draws.
fn fresh_bytes() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let half = || RandomState::new().hash_one(std::process::id()).to_le_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn databases(like: &PgConnectOptions, name: &str) -> i64 {
        let mut admin = like.clone().connect().await.expect("connection");
        sqlx::query_scalar("select count(*) from pg_database where datname = $1")
            .bind(name)
            .fetch_one(&mut admin)
            .await
            .expect("count")
    }

    #[tokio::test]
    async fn each_test_has_a_database_that_goes_with_it() {
        let first = TestDatabase::create().await;
        let second = TestDatabase::create().await;
        let mut connection = first.options().connect().await.expect("connection");
        sqlx::raw_sql("create table only_here (n int)").execute(&mut connection).await.expect("table");
        let mut other = second.options().connect().await.expect("connection");
        let missing: bool = sqlx::query_scalar("select to_regclass('only_here') is null")
            .fetch_one(&mut other)
            .await
            .expect("answer");
        assert!(missing, "databases are separate");

        let (name, server) = (first.name.clone(), first.server.clone());
        assert_eq!(databases(&server, &name).await, 1);
        // With `connection` still open.
        drop(first);
        assert_eq!(databases(&server, &name).await, 0);
    }
}
