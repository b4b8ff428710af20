//! The one coordinator that writes: its epoch, its pulse, and the lanes that its writes go through. How it
//! came to the lock says `takeover`.

use std::time::Duration;

use seedfarm_core::Epoch;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection, Postgres, Transaction};
use tokio::sync::{oneshot, watch};

use crate::database::Store;
use crate::error::{Result, StoreError, is_transient};
use crate::takeover::LOCK;

/// How often the connection that holds the lock is used. Who waits for the lock sees it, and takes a
/// holder without this pulse for gone.
const PULSE: Duration = Duration::from_millis(250);
/// How long that may take before the reign counts as lost.
const PULSE_TIMEOUT: Duration = Duration::from_secs(5);
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
    /// Begins to keep the lock that `connection` holds.
    pub(crate) fn begin(connection: PgConnection, epoch: Epoch) -> Self {
        let (lost_sender, lost) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let guard = tokio::spawn(keep(connection, ended, lost_sender));
        Self { epoch, lost, end, guard }
    }

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
        let id = enter(&mut inner, lane, epoch).await?;
        Ok(LaneTransaction { inner, id, pool: self.pool.clone() })
    }

    /// Begins a transaction beside which neither claims nor completions run.
    pub(crate) async fn begin_alone(&self, epoch: Epoch) -> Result<LaneTransaction> {
        let mut lane = self.begin_lane(Lane::Claims, epoch).await?;
        enter(&mut lane.inner, Lane::Completions, epoch).await?;
        Ok(lane)
    }
}

/// Takes a lane's row, if the epoch is the one in force; the transaction's id.
async fn enter(connection: &mut PgConnection, lane: Lane, epoch: Epoch) -> Result<String> {
    let id = sqlx::query_scalar!(
        r#"-- enter
        SELECT pg_current_xact_id()::text AS "id!" FROM reign
        WHERE lane = $1 AND epoch = $2 FOR NO KEY UPDATE"#,
        lane.as_str(),
        epoch.0
    );
    id.fetch_optional(connection).await?.ok_or(StoreError::Deposed { epoch })
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
