//! The one coordinator that writes: its lock, its epoch, and the lanes that its writes go through.

use std::time::Duration;

use seedfarm_core::Epoch;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{ConnectOptions, Connection, Postgres, Transaction};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::database::Store;
use crate::error::{Result, StoreError, is_transient};

/// The advisory lock of the reigning coordinator, in every farm's database.
const LOCK: i64 = i64::from_be_bytes(*b"seedfarm");
/// How often the connection that holds the lock is tried.
const PULSE: Duration = Duration::from_secs(1);
/// How long that may take before the reign counts as lost.
const PULSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a takeover waits for the lock: the server needs a moment to notice that a process is gone.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Pause between two questions whether a transaction was committed.
const RETRY: Duration = Duration::from_millis(100);

/// The right to write. It lasts until it is ended or dropped, or until the connection that holds the
/// lock breaks.
#[derive(Debug)]
pub struct Reign {
    epoch: Epoch,
    lost: watch::Receiver<bool>,
    end: oneshot::Sender<()>,
    guard: tokio::task::JoinHandle<()>,
}

impl Reign {
    /// The epoch, to be shown with every write.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Waits until the reign is lost: the lock's connection broke, so another may take over.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        if lost.wait_for(|&lost| lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets the lock go; when this returns, another may take over.
    pub async fn end(self) {
        drop(self.end);
        if let Err(error) = self.guard.await {
            tracing::warn!(%error, "the reign's guard ended in disorder");
        }
    }
}

impl Store {
    /// Takes the right to write, raises the epoch, and waits for writes of the reign before.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another coordinator reigns, and goes on to for some seconds.
    pub async fn take_over(&self) -> Result<Reign> {
        let options = self.options.clone().application_name("seedfarm-reign");
        let mut connection = options.connect().await?;
        lock(&mut connection).await?;
        let epoch = raise_epoch(&mut connection).await?;
        let (lost_sender, lost) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let guard = tokio::spawn(keep(connection, ended, lost_sender));
        Ok(Reign { epoch, lost, end, guard })
    }
}

async fn keep(mut connection: PgConnection, mut ended: oneshot::Receiver<()>, lost: watch::Sender<bool>) {
    loop {
        tokio::select! {
            _ = &mut ended => break,
            () = tokio::time::sleep(PULSE) => {}
        }
        if !matches!(tokio::time::timeout(PULSE_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
            lost.send_replace(true);
            return;
        }
    }
    if let Err(error) = unlock(connection).await {
        tracing::debug!(%error, "the reign's lock was let go by closing its connection");
    }
}

async fn lock(connection: &mut PgConnection) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !try_lock(connection).await? {
        if Instant::now() > deadline {
            let holder = lock_holder(connection).await?;
            return Err(StoreError::Held { holder });
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
    Ok(())
}

/// Frees the lock before the connection ends, which a server may notice only later.
async fn unlock(mut connection: PgConnection) -> Result<()> {
    let unlock = sqlx::query_scalar!(
        "-- unlock
        SELECT pg_advisory_unlock($1)",
        LOCK
    );
    unlock.fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool> {
    let locked = sqlx::query_scalar!(
        r#"-- try_lock
        SELECT pg_try_advisory_lock($1) AS "locked!""#,
        LOCK
    );
    Ok(locked.fetch_one(connection).await?)
}

async fn lock_holder(connection: &mut PgConnection) -> Result<String> {
    let holder = sqlx::query_scalar!(
        r#"-- lock_holder
        SELECT concat_ws(', ', 'process ' || a.pid, 'from ' || a.client_addr::text,
            'since ' || to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')) AS "holder!"
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (l.classid::bigint << 32) | l.objid::bigint = $1"#,
        LOCK
    );
    Ok(holder.fetch_optional(connection).await?.unwrap_or_else(|| "it is just leaving".to_owned()))
}

async fn raise_epoch(connection: &mut PgConnection) -> Result<Epoch> {
    let epochs = sqlx::query_scalar!(
        "-- raise_epoch
        UPDATE reign SET epoch = epoch + 1, since = now() RETURNING epoch"
    );
    let epochs = epochs.fetch_all(connection).await?;
    let epoch = epochs.into_iter().max().ok_or_else(|| StoreError::unreadable("the table", "reign"))?;
    Ok(Epoch(epoch))
}

/// A stream of writes of which one transaction runs at a time. Migration 0001 says which lane touches
/// what, and why the lanes cannot block one another for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Claims,
    Completions,
    Submissions,
    Control,
}

impl Lane {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Completions => "completions",
            Self::Submissions => "submissions",
            Self::Control => "control",
        }
    }
}

/// A transaction of one lane, in a reign that cannot end before it does.
pub(crate) struct LaneTransaction {
    inner: Transaction<'static, Postgres>,
    id: String,
    pool: PgPool,
}

impl Store {
    /// Begins a lane's transaction, once the one before it is over.
    pub(crate) async fn begin_lane(&self, lane: Lane, epoch: Epoch) -> Result<LaneTransaction> {
        let mut inner = self.pool.begin().await?;
        let id = sqlx::query_scalar!(
            r#"-- begin_lane
            SELECT pg_current_xact_id()::text AS "id!" FROM reign
            WHERE lane = $1 AND epoch = $2 FOR NO KEY UPDATE"#,
            lane.as_str(),
            epoch.0
        );
        let id = id.fetch_optional(&mut *inner).await?.ok_or(StoreError::Deposed { epoch })?;
        Ok(LaneTransaction { inner, id, pool: self.pool.clone() })
    }
}

impl LaneTransaction {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    /// Commits. An error means that nothing was stored: where the connection breaks in the middle, this
    /// asks the database what became of the transaction, for as long as it takes the database to answer.
    pub(crate) async fn commit(self) -> Result<()> {
        let Err(error) = self.inner.commit().await else { return Ok(()) };
        tracing::warn!(%error, transaction.id = self.id, "a commit was cut off; asking what became of it");
        if was_committed(&self.pool, &self.id).await? { Ok(()) } else { Err(error.into()) }
    }
}

async fn was_committed(pool: &PgPool, id: &str) -> Result<bool> {
    loop {
        match transaction_status(pool, id).await {
            Ok(Some(status)) if status == "committed" => return Ok(true),
            Ok(Some(status)) if status == "aborted" => return Ok(false),
            Ok(Some(_)) => {}
            Ok(None) => return Err(StoreError::unreadable("the transaction", id)),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn transaction_status(pool: &PgPool, id: &str) -> Result<Option<String>, sqlx::Error> {
    let status = sqlx::query_scalar!(
        "-- transaction_status
        SELECT pg_xact_status($1::text::xid8)",
        id
    );
    status.fetch_one(pool).await
}
