//! Placement: which range of which job a device renders next.
//!
//! Pure: [`Queue`] holds what waits, who is there and what is out; the present time comes in as a value.
//! [`Queue::choose`] decides; [`Queue::take`] takes what was chosen out of the queue, and [`Queue::end`] takes in
//! that a lease is over.
//!
//! The order: the tenant first that had least device time for its weight; inside a tenant a rank that ages
//! (`rank.rs`); inside a job, ranges to be rendered again before fresh ones. Against that stands what a device
//! has loaded (`warmth.rs`): it stays with it while swaps would take too much of its time, but nobody waits
//! longer than a bound for that. Which devices may take a job is worked out by class (`class.rs`, `fleet.rs`);
//! workers that a range avoids are passed over unless no other eligible worker is there (forgiveness). What is
//! at a limit, waits for another job or is deferred is not in the index, and comes back by itself. A
//! lease that holds up the end of its job is rendered a second time.
//!
//! A decision costs the same whatever the length of the queue: it looks at classes, tenants and the heads of
//! ordered sets, and at a bounded number of jobs.

mod bits;
mod choose;
mod chunk;
mod class;
mod fleet;
mod index;
mod job;
mod lease;
mod limits;
mod queue;
mod rank;
mod tenants;
mod warmth;
mod why;
mod work;

pub use choose::{NoWork, Pick};
pub use chunk::MAX_CHUNK;
pub use class::{Class, Demand, Group, Lack, Offer};
pub use fleet::{DeviceId, Fleet};
pub use job::QueuedJob;
pub use lease::{Ended, Leased, Timing};
pub use queue::{Queue, Stirred};
pub use why::{DeviceOutlook, DeviceReason, JobOutlook, JobReason, Limit, Share};
pub use work::{Retry, Source};

#[cfg(test)]
mod tests;
