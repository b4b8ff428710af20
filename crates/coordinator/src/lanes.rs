//! The two commit lanes, and beside them the writer of logs. Each lane is one task that commits, in one transaction, whatever arrived during the
//! flush before: under load the batches grow and the cost of a flush is shared.

pub(crate) mod claims;
pub(crate) mod completions;
pub(crate) mod logs;

pub(crate) use completions::{Completing, Ending};
