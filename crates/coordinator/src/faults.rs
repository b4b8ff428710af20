//! What a caller is told of faults that are not its own.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use seedfarm_blob::BlobError;
use seedfarm_proto::error;
use seedfarm_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::recipes::RecipeError;

/// When to come back after a fault that passes.
const COME_BACK: Duration = Duration::from_secs(1);

/// A fault of the store: one that passes is UNAVAILABLE, any other INTERNAL and logged here.
pub(crate) fn of_store(fault: StoreError) -> Status {
    match &fault {
        StoreError::Deposed { .. } => {
            unavailable("TAKEN_OVER", "this coordinator is stepping down: try again")
        }
        StoreError::OverQuota { .. } => {
            error::status(Code::ResourceExhausted, "TENANT_OVER_QUOTA", fault.to_string())
        }
        fault if fault.is_transient() => {
            tracing::warn!(error = fault as &dyn Error, "a request failed on the database");
            unavailable("DATABASE_DOWN", "the coordinator's database does not answer: try again")
        }
        fault => internal(fault),
    }
}

/// A fault of the blob store.
pub(crate) fn of_blob(fault: BlobError) -> Status {
    tracing::error!(error = &fault as &dyn Error, "the blob store failed");
    unavailable("BLOB_STORE_DOWN", format!("the coordinator's picture store failed: {fault}"))
}

/// A fault on the way to a stored recipe.
pub(crate) fn of_recipe(fault: RecipeError) -> Status {
    match fault {
        RecipeError::Store(fault) => of_store(fault),
        fault => internal(&fault),
    }
}

/// The coordinator is about to stop, or to change between active and standby.
pub(crate) fn stopping() -> Status {
    unavailable("STOPPING", "the coordinator is shutting down or changing its role: connect again")
}

/// This coordinator stands by; `active` is the address of the one that decides.
pub(crate) fn not_active(active: Option<&str>) -> Status {
    let message = match active {
        Some(address) => format!(
            "this coordinator stands by and takes no work: the active one is at {address}; give both addresses \
             with --coordinator"
        ),
        None => "this coordinator stands by, and no other has said that it is active: try again".to_owned(),
    };
    let metadata = active.map(|address| ("active".to_owned(), address.to_owned()));
    passing("NOT_ACTIVE", message, metadata.into_iter().collect())
}

/// Something that was asked for is not there.
pub(crate) fn not_found(reason: &str, message: impl Into<String>) -> Status {
    error::status(Code::NotFound, reason, message)
}

fn internal(fault: &(dyn Error + 'static)) -> Status {
    tracing::error!(error = fault, "a request failed");
    error::status(Code::Internal, "INTERNAL", "the coordinator failed: its log says why")
}

fn unavailable(reason: &str, message: impl Into<String>) -> Status {
    passing(reason, message, HashMap::new())
}

fn passing(reason: &str, message: impl Into<String>, metadata: HashMap<String, String>) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(COME_BACK));
    details.set_error_info(reason, error::DOMAIN, metadata);
    Status::with_error_details(Code::Unavailable, message, details)
}
