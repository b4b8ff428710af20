//! The progress bus: tells every coordinator replica and gateway what happens to a job.
//!
//! It carries no authority. Everything on it can be read from PostgreSQL too, so a message that
//! is lost delays what a watcher sees and changes nothing: the watcher is told that it
//! [missed](Delivery::Missed) something and reads a snapshot. A single process uses [`LocalBus`];
//! replicas share a [`RedisBus`].
//!
//! The bus knows jobs by their ids and looks into no payload.

mod local;
mod message;
mod outbox;
mod redis;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use seedfarm_core::id::JobId;

pub use local::{LocalBus, Subscription};
pub use redis::RedisBus;

/// How many events of a job a slow subscriber may be behind before it [misses](Delivery::Missed)
/// the oldest.
pub const BACKLOG: usize = 256;

/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// What a subscriber receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An event, as its publisher gave it.
    Event(Arc<[u8]>),
    /// Events may have been lost, because the subscriber was slow or the bus was down. Read a
    /// snapshot; what comes after this continues from it, and may repeat some of it.
    Missed,
}

/// A bus that cannot be set up. Once it is, a bus never fails.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is not one of a Redis server.
    #[error("'{url}' is not the address of a Redis server, such as redis://host:6379")]
    Address {
        /// The address, without a password.
        url: String,
        /// The cause.
        #[source]
        source: ::redis::RedisError,
    },
}

/// Carries events of jobs between whoever runs them and whoever watches them.
///
/// Both methods return at once and cannot fail. Each subscriber gets the events of one publisher
/// in the order of their publication.
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Tells the subscribers of `job`, here and in other processes.
    ///
    /// A payload longer than [`MAX_PAYLOAD`] bytes reaches them as [`Delivery::Missed`].
    fn publish(&self, job: JobId, payload: Arc<[u8]>);

    /// Receives what is published about `job` from now on.
    fn subscribe(&self, job: JobId) -> Subscription;
}
