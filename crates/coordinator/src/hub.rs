//! Fan-out of what happens to those who watch. It carries no authority: an event only says that there is
//! something new to read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use seedfarm_core::{JobId, ReplayId};
use seedfarm_proto::v1;
use tokio::sync::broadcast;

/// Events that a watcher may lag behind before it is told that it missed some.
const BACKLOG: usize = 64;

/// Something happened to a job.
#[derive(Debug, Clone)]
pub(crate) enum JobEvent {
    /// Its state or a counter changed.
    Changed,
    /// An image is in the making.
    Preview(Arc<v1::Preview>),
}

/// Who watches what.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) jobs: Topics<JobId, JobEvent>,
    pub(crate) replays: Topics<ReplayId, ()>,
}

/// One channel for each thing that somebody watches.
#[derive(Debug)]
pub(crate) struct Topics<K, E> {
    channels: Mutex<HashMap<K, broadcast::Sender<E>>>,
}

impl<K, E> Default for Topics<K, E> {
    fn default() -> Self {
        Self { channels: Mutex::default() }
    }
}

impl<K: Eq + Hash, E: Clone> Topics<K, E> {
    /// Watches one thing from now on.
    pub(crate) fn watch(&self, key: K) -> broadcast::Receiver<E> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, sender| sender.receiver_count() > 0);
        channels.entry(key).or_insert_with(|| broadcast::Sender::new(BACKLOG)).subscribe()
    }

    /// Whether anybody watches it.
    pub(crate) fn is_watched(&self, key: &K) -> bool {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.get(key).is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Tells whoever watches.
    pub(crate) fn tell(&self, key: &K, event: E) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = channels.get(key) {
            // Nobody being there any more is no fault.
            let _ = sender.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reaches_those_who_watch_and_nobody_else() {
        let topics: Topics<u8, u8> = Topics::default();
        let mut receiver = topics.watch(1);
        topics.tell(&2, 7);
        topics.tell(&1, 8);
        assert_eq!(receiver.try_recv().unwrap(), 8);
        assert!(receiver.try_recv().is_err());
        assert!(topics.is_watched(&1));
        drop(receiver);
        assert!(!topics.is_watched(&1));
    }
}
