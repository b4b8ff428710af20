//! The bus within one process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seedfarm_core::id::JobId;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{BACKLOG, Bus, Delivery, MAX_PAYLOAD};

/// One channel for each job that somebody watches.
type Channels = HashMap<JobId, broadcast::Sender<Delivery>>;

/// Carries events between the tasks of one process. Clones are the same bus.
#[derive(Debug, Clone, Default)]
pub struct LocalBus {
    channels: Arc<Mutex<Channels>>,
}

impl LocalBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells every subscriber of every job that it may have missed something.
    pub(super) fn tell_all_missed(&self) {
        for channel in self.channels().values() {
            // Without a receiver there is nobody to tell.
            let _ = channel.send(Delivery::Missed);
        }
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        // No code under the lock can leave the map half-changed.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn watched_jobs(&self) -> usize {
        self.channels().len()
    }
}

impl Bus for LocalBus {
    fn publish(&self, job: JobId, payload: Arc<[u8]>) {
        let delivery = match payload.len() {
            0..=MAX_PAYLOAD => Delivery::Event(payload),
            _ => Delivery::Missed,
        };
        if let Some(channel) = self.channels().get(&job) {
            // Without a receiver there is nobody to tell.
            let _ = channel.send(delivery);
        }
    }

    fn subscribe(&self, job: JobId) -> Subscription {
        let receiver = match self.channels().entry(job) {
            Entry::Occupied(channel) => channel.get().subscribe(),
            Entry::Vacant(place) => {
                let (sender, receiver) = broadcast::channel(BACKLOG);
                place.insert(sender);
                receiver
            }
        };
        Subscription { job, receiver: Some(receiver), bus: self.clone() }
    }
}

/// The events of one job, from the moment of subscribing. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    job: JobId,
    /// Taken only by `drop`.
    receiver: Option<broadcast::Receiver<Delivery>>,
    bus: LocalBus,
}

impl Subscription {
    /// Waits for what comes next. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Delivery {
        let Some(receiver) = &mut self.receiver else {
            return std::future::pending().await;
        };
        match receiver.recv().await {
            Ok(delivery) => delivery,
            Err(RecvError::Lagged(_)) => Delivery::Missed,
            // The map holds the sender as long as this subscription lives.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut channels = self.bus.channels();
        // Under the lock, so that nobody subscribes between the count and the removal.
        drop(self.receiver.take());
        if let Entry::Occupied(channel) = channels.entry(self.job)
            && channel.get().receiver_count() == 0
        {
            channel.remove();
        }
    }
}
