//! What can go wrong between the farm and its database.

use seedfarm_core::{Epoch, Invalid, TenantName};

use crate::private::ClusterError;

/// What the store can fail with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or refused a statement.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// No server answers at the address that was given.
    #[error("{address} does not answer: is that server running, and may this machine reach it?")]
    Unreachable {
        /// Where, without the password.
        address: String,
        /// What the connection said.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("the database's tables could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The private cluster did not start, or the server does not keep its promises.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The address of the database cannot be read.
    #[error(
        "the database's address cannot be read: give DATABASE_URL as postgres://user:password@host:5432/database"
    )]
    Address(#[source] sqlx::Error),
    /// Another coordinator writes to this database.
    #[error(
        "another coordinator holds this database ({holder}): stop it first, or give this one a database of its own"
    )]
    Held {
        /// Who, as far as the database knows.
        holder: String,
    },
    /// The reign of the caller is over; nothing was written.
    #[error("epoch {epoch} is over: another coordinator has taken over this database")]
    Deposed {
        /// The caller's epoch.
        epoch: Epoch,
    },
    /// A tenant's unfinished jobs would hold more images than it may have; nothing was stored.
    #[error(
        "the tenant '{tenant}' has {used} images in unfinished jobs; {asked} more would pass its limit of {limit}: wait, \
         cancel some, or raise it with 'seedfarm tenants set {tenant} --max-images N'"
    )]
    OverQuota {
        /// Whose.
        tenant: TenantName,
        /// Images of its unfinished jobs.
        used: u64,
        /// Images of the new job.
        asked: u64,
        /// Its limit.
        limit: u64,
    },
    /// A stored value that this version cannot read.
    #[error(
        "{what} '{value}' in the database cannot be read: was it written by a newer version of Seedfarm?"
    )]
    Unreadable {
        /// Which value.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// A stored recipe that this version cannot read.
    #[error("a stored recipe cannot be read")]
    Recipe(#[from] Invalid),
}

/// The result of asking the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// SQLSTATE classes that pass by themselves: connection lost, transaction rolled back, resources
/// short, stopped by an operator.
const TRANSIENT_CLASSES: [&str; 4] = ["08", "40", "53", "57"];
/// SQLSTATE of a lock that was not to be had in time.
pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";

impl StoreError {
    /// Whether the same call may succeed later, unchanged. Nothing of it was stored.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) | Self::Unreachable { source: error, .. } => is_transient(error),
            _ => false,
        }
    }

    pub(crate) fn unreadable(what: &'static str, value: impl ToString) -> Self {
        Self::Unreadable { what, value: value.to_string() }
    }
}

pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    use sqlx::Error::{BeginFailed, Io, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | WorkerCrashed | BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code == LOCK_NOT_AVAILABLE || TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_passes_and_a_foreign_row_does_not() {
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(StoreError::from(sqlx::Error::Io(lost)).is_transient());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_transient());
        assert!(!StoreError::Deposed { epoch: Epoch(3) }.is_transient());
    }
}
