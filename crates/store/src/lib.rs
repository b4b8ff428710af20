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
mod context;
mod control;
mod coordinators;
mod database;
mod error;
mod fingerprints;
mod jobs;
mod logs;
mod models;
mod packages;
mod pictures;
pub mod private;
mod progress;
mod reign;
mod replays;
mod results;
mod snapshot;
mod takeover;
mod templates;
mod tenants;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod twins;
mod value;
mod warnings;
mod workers;

pub use aftermath::DeadImage;
pub use check::{Audit, Census, Finding, audit, check};
pub use claims::Claim;
pub use completions::{Completion, CompletionOutcome, Failure, Released, Settled};
pub use context::JobContext;
pub use control::{ControlRow, Retried};
pub use coordinators::{Announcement, CoordinatorRow};
pub use database::{Database, DatabaseConfig, Store, open_database};
pub use error::{Result, StoreError};
pub use fingerprints::StoredFingerprint;
pub use jobs::{Inserted, JobRow, LineRow, NewJob};
pub use logs::{AttemptLog, LogFilter, LogRow};
pub use packages::PackageRow;
pub use pictures::NewPicture;
pub use progress::{Progress, Totals};
pub use reign::Reign;
pub use replays::{NewReplay, Outlook, Rendered, ReplayRow};
pub use results::{ImageRow, NewResult};
pub use snapshot::{LeaseRow, RangeRow, Snapshot, Unfinished};
pub use takeover::{Bid, Candidate};
pub use tenants::{DeviceLimit, TenantRow};
pub use warnings::ImageWarnings;
pub use workers::{NewWorker, WorkerRow};
