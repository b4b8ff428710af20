//! Why a coordinator cannot start or must stop.

use seedfarm_core::{Epoch, JobId};
use seedfarm_store::StoreError;

/// A coordinator that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Another coordinator reigns now; this one wrote nothing since.
    #[error(
        "another coordinator has taken over after epoch {epoch}: this one has stepped down and wrote nothing since"
    )]
    TakenOver {
        /// This coordinator's last epoch.
        epoch: Epoch,
    },
    /// The store failed in a way that does not pass.
    #[error("cannot {what}")]
    Store {
        /// What was attempted.
        what: String,
        /// The store's own words.
        source: StoreError,
    },
    /// What is in memory and what is stored disagree; starting again reads everything anew.
    #[error("the coordinator's picture of {job} differs from the database's: start it again to read it anew")]
    OutOfStep {
        /// The job.
        job: JobId,
    },
    /// The server could not serve.
    #[error("the gRPC server failed")]
    Server(#[from] tonic::transport::Error),
    /// The reflection service could not be built.
    #[error("the service descriptions cannot be read")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener is of no use.
    #[error("the listening socket failed")]
    Listener(#[from] std::io::Error),
}

impl CoordinatorError {
    /// A fault of the store that does not pass.
    pub(crate) fn of_store(what: &str, fault: StoreError) -> Self {
        match fault {
            StoreError::Deposed { epoch } => Self::TakenOver { epoch },
            source => Self::Store { what: what.to_owned(), source },
        }
    }
}
