//! Placement: which range of which job a device renders next.
//!
//! Pure: [`Queue`] holds what waits, [`Fleet`] who is there, and the present time comes in as a value.
//! [`Queue::choose`] decides and changes nothing; [`Queue::take`] takes what was chosen out of the queue.
//!
//! The order: priority, then age; within a job, ranges to be rendered again before fresh ones. A device
//! is eligible for a job by the model's digest, the class of arithmetic and the adapters that its worker has;
//! workers that a range avoids are passed over unless no other eligible worker is there (forgiveness).

mod chunk;
mod fleet;
mod queue;
mod work;

pub use chunk::MAX_CHUNK;
pub use fleet::{DeviceId, Fleet};
pub use queue::{NoWork, Pick, Queue, QueuedJob};
pub use work::{Retry, Source};

use crate::digest::ModelDigest;
use crate::recipe::Numerics;

/// What a device must offer to be eligible for a job, besides the adapters that the job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The model.
    pub model: ModelDigest,
    /// The class of arithmetic.
    pub numerics: Numerics,
}

#[cfg(test)]
mod tests;
