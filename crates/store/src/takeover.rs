//! Coming to the right to write: the lock, the epoch, and what is done about a holder that is gone without
//! a word.
//!
//! The lock is an advisory one of PostgreSQL, which frees it with the holder's connection. A holder whose
//! process was stopped, or whose machine was cut off, keeps its connection; but it uses it several times a
//! second while it lives, which `pg_stat_activity` shows, and so a candidate ends the connection of a holder
//! that has not. Nothing rests on that judgement: whoever takes over raises the epoch, and the one before can
//! write no more, dead or alive.

use std::time::Duration;

use seedfarm_core::Epoch;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::database::Store;
use crate::error::{LOCK_NOT_AVAILABLE, Result, StoreError};
use crate::reign::Reign;

/// The advisory lock of the reigning coordinator, in every farm's database.
pub(crate) const LOCK: i64 = i64::from_be_bytes(*b"seedfarm");
/// The name that the connection with the lock goes by.
const APPLICATION: &str = "seedfarm-reign";
/// A holder that has not used its connection for so long is gone: it has missed five pulses.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long [`Store::take_over`] waits for the lock: the server needs a moment to notice that a process is
/// gone.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// How long raising the epoch waits for a write of the reign before, until it looks whether anybody is still
/// at work there; in the server's own form.
const EPOCH_PATIENCE: (&str, &str) = ("lock_timeout", "250ms");

/// A connection that waits for the right to write.
#[derive(Debug)]
pub struct Candidate {
    connection: PgConnection,
}

/// What a try for the right to write came to.
#[derive(Debug)]
pub enum Bid {
    /// The right to write.
    Taken(Reign),
    /// Another coordinator holds it.
    Held(Candidate),
}

impl Store {
    /// Opens a connection that can wait for the right to write.
    pub async fn candidate(&self) -> Result<Candidate> {
        let options = self.options.clone().application_name(APPLICATION).options([EPOCH_PATIENCE]);
        Ok(Candidate { connection: options.connect().await? })
    }

    /// Takes the right to write, raises the epoch, and waits for writes of the reign before.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another coordinator reigns, and goes on to for some seconds.
    pub async fn take_over(&self) -> Result<Reign> {
        let deadline = Instant::now() + PATIENCE;
        let mut candidate = self.candidate().await?;
        loop {
            candidate = match candidate.bid().await? {
                Bid::Taken(reign) => return Ok(reign),
                Bid::Held(candidate) => candidate,
            };
            if Instant::now() > deadline {
                let holder = lock_holder(&mut candidate.connection).await?;
                return Err(StoreError::Held { holder });
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    }
}

impl Candidate {
    /// Tries once. Where the lock is free, the epoch is raised, once the writes of the reign before are over.
    pub async fn bid(mut self) -> Result<Bid> {
        if !try_lock(&mut self.connection).await? {
            return Ok(Bid::Held(self));
        }
        let epoch = loop {
            match raise_epoch(&mut self.connection).await {
                Err(StoreError::Database(fault)) if is_lock_timeout(&fault) => {
                    end_silent_writers(&mut self.connection).await?;
                }
                raised => break raised?,
            }
        };
        Ok(Bid::Taken(Reign::begin(self.connection, epoch)))
    }

    /// Ends the connection of a holder that has shown no pulse. Answers whether there was one.
    pub async fn end_silent_holder(&mut self) -> Result<bool> {
        let end = sqlx::query_scalar!(
            r#"-- end_silent_holder
            SELECT pg_terminate_backend(a.pid) AS "ended!"
            FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND (l.classid::bigint << 32) | l.objid::bigint = $1
                AND clock_timestamp() - a.state_change > make_interval(secs => $2)"#,
            LOCK,
            SILENCE.as_secs_f64()
        );
        let ended = end.fetch_all(&mut self.connection).await?;
        Ok(ended.into_iter().any(|ended| ended))
    }
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

/// Ends connections that hold a lane's row and have done nothing with it: a process that was stopped in the
/// middle of a write would hold up whoever comes after it. What they wrote is undone.
async fn end_silent_writers(connection: &mut PgConnection) -> Result<()> {
    let end = sqlx::query_scalar!(
        r#"-- end_silent_writers
        SELECT pg_terminate_backend(a.pid) AS "ended!"
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'RowShareLock'
            AND l.relation = 'reign'::regclass
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND a.pid <> pg_backend_pid() AND a.state LIKE 'idle in transaction%'
            AND clock_timestamp() - a.state_change > make_interval(secs => $1)"#,
        SILENCE.as_secs_f64()
    );
    let ended = end.fetch_all(connection).await?;
    if !ended.is_empty() {
        tracing::warn!(writers = ended.len(), "ended writes of the reign before that nobody went on with");
    }
    Ok(())
}

fn is_lock_timeout(fault: &sqlx::Error) -> bool {
    fault.as_database_error().and_then(|fault| fault.code()).is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}
