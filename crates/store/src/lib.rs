//! Every SQL statement, the private PostgreSQL cluster, and the progress bus.
//!
//! One file a noun; every statement opens with the name of the function it stands in. [`Store`] holds
//! the connections. What changes the farm's work goes through four lanes (`reign`); all else is single
//! statements. Decisions are core's; the guard of each is repeated here in SQL.

mod adapters;
mod aftermath;
pub mod bus;
mod check;
mod claims;
mod completions;
mod database;
mod error;
mod fingerprints;
mod jobs;
mod models;
mod pictures;
pub mod private;
mod progress;
mod reign;
mod replays;
mod results;
mod snapshot;
mod templates;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod value;
mod warnings;
mod workers;

pub use aftermath::DeadImage;
pub use check::{Finding, check};
pub use claims::Claim;
pub use completions::{Completion, CompletionOutcome, Failure, Released, Settled};
pub use database::{Database, DatabaseConfig, Store, open_database};
pub use error::{Result, StoreError};
pub use fingerprints::StoredFingerprint;
pub use jobs::{Inserted, JobRow, LineRow, NewJob};
pub use pictures::NewPicture;
pub use progress::{Progress, Totals};
pub use reign::Reign;
pub use replays::{NewReplay, Outlook, Rendered, ReplayRow};
pub use results::{ImageRow, NewResult};
pub use snapshot::{LeaseRow, RangeRow, Snapshot};
pub use warnings::ImageWarnings;
pub use workers::{NewWorker, WorkerRow};
