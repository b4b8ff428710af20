//! Fan-out of what happens to those who watch. It carries no authority: an event only says that there is
//! something new to read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use prost::Message;
use seedfarm_core::{JobId, ReplayId};
use seedfarm_proto::v1;
use seedfarm_store::bus::{Bus, Delivery, Subscription};
use tokio::sync::broadcast;

/// Events that a watcher may lag behind before it is told that it missed some.
const BACKLOG: usize = 64;

/// Opens the payload of a change on the bus.
const CHANGED: u8 = 0;
/// Opens the payload of a preview; the preview follows.
const PREVIEW: u8 = 1;

/// Something happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JobEvent {
    /// Its state or a counter changed, or events were missed.
    Changed,
    /// An image is in the making.
    Preview(v1::Preview),
}

impl JobEvent {
    fn to_payload(&self) -> Arc<[u8]> {
        match self {
            Self::Changed => Arc::new([CHANGED]),
            Self::Preview(preview) => {
                let mut payload = vec![PREVIEW];
                payload.extend(preview.encode_to_vec());
                payload.into()
            }
        }
    }

    /// What cannot be read, such as an event of a newer version, counts as a change.
    fn of(delivery: &Delivery) -> Self {
        match delivery {
            Delivery::Event(payload) => match payload.split_first() {
                Some((&PREVIEW, preview)) => {
                    v1::Preview::decode(preview).map_or(Self::Changed, Self::Preview)
                }
                _ => Self::Changed,
            },
            Delivery::Missed => Self::Changed,
        }
    }
}

/// Who watches what.
#[derive(Debug)]
pub(crate) struct Hub {
    bus: Arc<dyn Bus>,
    pub(crate) replays: Topics<ReplayId>,
}

impl Hub {
    pub(crate) fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus, replays: Topics::default() }
    }

    /// Tells whoever watches a job.
    pub(crate) fn tell(&self, job: JobId, event: &JobEvent) {
        self.bus.publish(job, event.to_payload());
    }

    /// Watches a job from now on.
    pub(crate) fn watch(&self, job: JobId) -> JobEvents {
        JobEvents(self.bus.subscribe(job))
    }
}

/// What happens to one job.
pub(crate) struct JobEvents(Subscription);

impl JobEvents {
    /// Waits for the next event.
    pub(crate) async fn next(&mut self) -> JobEvent {
        JobEvent::of(&self.0.next().await)
    }

    /// The next event, if it is there already.
    pub(crate) fn ready(&mut self) -> Option<JobEvent> {
        self.next().now_or_never()
    }
}

/// One channel for each thing that somebody watches.
#[derive(Debug)]
pub(crate) struct Topics<K> {
    channels: Mutex<HashMap<K, broadcast::Sender<()>>>,
}

impl<K> Default for Topics<K> {
    fn default() -> Self {
        Self { channels: Mutex::default() }
    }
}

impl<K: Eq + Hash> Topics<K> {
    /// Watches one thing from now on.
    pub(crate) fn watch(&self, key: K) -> broadcast::Receiver<()> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, sender| sender.receiver_count() > 0);
        channels.entry(key).or_insert_with(|| broadcast::Sender::new(BACKLOG)).subscribe()
    }

    /// Tells whoever watches.
    pub(crate) fn tell(&self, key: &K) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = channels.get(key) {
            // Nobody being there any more is no fault.
            let _ = sender.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seedfarm_store::bus::LocalBus;
    use uuid::Uuid;

    fn job(n: u128) -> JobId {
        JobId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn an_event_reaches_those_who_watch_its_job_and_nobody_else() {
        let hub = Hub::new(Arc::new(LocalBus::new()));
        let mut events = hub.watch(job(1));
        let preview = v1::Preview { index: 3, step: 1, steps: 4, png: vec![1, 2] };
        hub.tell(job(2), &JobEvent::Changed);
        hub.tell(job(1), &JobEvent::Preview(preview.clone()));
        hub.tell(job(1), &JobEvent::Changed);
        assert_eq!(events.ready(), Some(JobEvent::Preview(preview)));
        assert_eq!(events.ready(), Some(JobEvent::Changed));
        assert_eq!(events.ready(), None);
    }

    #[test]
    fn what_was_missed_or_cannot_be_read_counts_as_a_change() {
        for delivery in [Delivery::Missed, Delivery::Event(Arc::new([9])), Delivery::Event(Arc::new([]))] {
            assert_eq!(JobEvent::of(&delivery), JobEvent::Changed);
        }
        assert_eq!(JobEvent::of(&Delivery::Event(Arc::new([PREVIEW, 255]))), JobEvent::Changed);
    }
}
