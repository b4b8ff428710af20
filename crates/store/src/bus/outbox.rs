//! Events that wait for Redis: a bounded queue that gives up the oldest.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many events wait at most while Redis is away.
const CAPACITY: usize = 1024;
/// How many bytes wait at most.
const CAPACITY_BYTES: usize = 16 << 20;

/// What waits, oldest first.
#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// An event was given up since the last [`Batch`].
    lost: bool,
}

/// What is to be sent next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Before `messages`, the others must be told that they missed something.
    pub(super) lost: bool,
    pub(super) messages: Vec<Vec<u8>>,
}

/// Filled by publishers, which never wait, and emptied by one sender.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Outbox {
    /// Adds a message and, where there is no room, gives up the oldest ones: for progress the
    /// newest event is worth most.
    pub(super) fn push(&self, message: Vec<u8>) {
        let mut waiting = self.lock();
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        while waiting.messages.len() > CAPACITY || waiting.bytes > CAPACITY_BYTES {
            let Some(oldest) = waiting.messages.pop_front() else { break };
            waiting.bytes -= oldest.len();
            waiting.lost = true;
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Records that messages were lost on their way.
    pub(super) fn mark_lost(&self) {
        self.lock().lost = true;
        self.filled.notify_one();
    }

    /// Waits until there is something to send and takes all of it.
    pub(super) async fn take(&self) -> Batch {
        loop {
            let filled = self.filled.notified();
            {
                let mut waiting = self.lock();
                if waiting.lost || !waiting.messages.is_empty() {
                    let Waiting { messages, lost, .. } = std::mem::take(&mut *waiting);
                    let messages = messages.into();
                    return Batch { lost, messages };
                }
            }
            filled.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code under the lock can leave the queue half-changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_outbox_gives_up_the_oldest_and_remembers_that_it_did() {
        let outbox = Outbox::default();
        outbox.push(vec![0]);
        let batch = outbox.take().await;
        assert_eq!((batch.lost, batch.messages), (false, vec![vec![0]]));

        for number in 0..=CAPACITY {
            outbox.push(number.to_le_bytes().to_vec());
        }
        let batch = outbox.take().await;
        assert!(batch.lost);
        assert_eq!(batch.messages.len(), CAPACITY);
        assert_eq!(batch.messages[0], 1_usize.to_le_bytes());
        assert_eq!(batch.messages[CAPACITY - 1], CAPACITY.to_le_bytes());

        outbox.push(vec![1; CAPACITY_BYTES]);
        outbox.push(vec![2]);
        let batch = outbox.take().await;
        assert_eq!((batch.lost, batch.messages), (true, vec![vec![2]]));

        outbox.mark_lost();
        let marker = Batch { lost: true, messages: vec![] };
        assert_eq!(outbox.take().await, marker);
    }
}
