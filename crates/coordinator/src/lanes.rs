//! The two commit lanes. Each is one task that commits, in one transaction, whatever arrived during the
//! flush before: under load the batches grow and the cost of a flush is shared.

pub(crate) mod claims;
pub(crate) mod completions;

pub(crate) use completions::{Completing, Ending};
