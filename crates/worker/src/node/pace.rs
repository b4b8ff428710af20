//! Time, as the node sees it: heartbeats, credit, and the way out.

use std::time::Duration;

use seedfarm_proto::v1;
use seedfarm_proto::v1::session_request::Message;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::held::Held;
use super::slot::Slot;
use super::{Leaving, Node};
use crate::lease::Stop;

/// Rendered leases of one device that may wait for the coordinator before it gets no more.
const MOST_UNSETTLED: usize = 4;

/// How long the coordinator gets to close the stream after the worker closed its side.
const FAREWELL: Duration = Duration::from_secs(1);

impl Node {
    pub(super) fn begin_to_stop(&mut self) {
        let now = Instant::now();
        let deadline = self.config.shutdown_deadline;
        tracing::info!(worker.id = %self.worker, held = self.held.len(), "stopping: finishing images in the making");
        self.ask_all_to_stop(Stop::AfterBatch);
        self.begin_to_leave(Leaving::Stopped { give_up: now + deadline * 2 / 3, leave: now + deadline });
    }

    pub(super) fn begin_to_leave(&mut self, leaving: Leaving) {
        if self.leaving.is_none() {
            tracing::info!(worker.id = %self.worker, held = self.held.len(), "taking no more work");
            self.talk.say(Message::Drain(v1::Drain {}));
        }
        if !matches!(self.leaving, Some(Leaving::Stopped { .. })) {
            self.leaving = Some(leaving);
        }
    }

    pub(super) fn ask_all_to_stop(&self, stop: Stop) {
        let leases = self.held.values().filter_map(|held| held.lease.as_ref());
        leases.for_each(|lease| lease.ask_to_stop(stop));
    }

    /// Whether nothing is left to do, or nothing more can be done.
    pub(super) fn may_leave(&self) -> bool {
        let Some(leaving) = self.leaving else { return false };
        if self.held.is_empty() {
            return true;
        }
        let Leaving::Stopped { leave, .. } = leaving else { return false };
        let rendered = self.held.values().all(|held| held.ended);
        let late = Instant::now() >= leave;
        if late || (rendered && !self.talk.is_welcome()) {
            tracing::warn!(
                worker.id = %self.worker, held = self.held.len(),
                "leaving with leases that are not settled; finished pictures stay in the outbox for the next start"
            );
            return true;
        }
        false
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let out = match self.leaving {
            Some(Leaving::Stopped { give_up, leave }) => {
                Some(if Instant::now() < give_up { give_up } else { leave })
            }
            _ => None,
        };
        let rests = self.slots.values().filter(|_| self.wants_work()).filter_map(Slot::rests_until);
        rests.chain(out).chain(self.talk.next_heartbeat()).min()
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        if let Some(Leaving::Stopped { give_up, .. }) = self.leaving
            && now >= give_up
        {
            self.ask_all_to_stop(Stop::AtNextStep);
        }
        if self.talk.is_heartbeat_due(now) {
            self.beat();
        }
        if self.wants_work() {
            self.give_credit(now);
        }
    }

    /// Says what is held and which devices rest.
    pub(super) fn beat(&mut self) {
        let (held, resting) = (self.fences(), self.resting());
        self.talk.say(Message::Heartbeat(v1::Heartbeat { held, resting }));
    }

    fn wants_work(&self) -> bool {
        self.leaving.is_none() && self.talk.is_welcome()
    }

    /// Asks for as many leases as the devices can take. A device whose finished leases wait for the
    /// coordinator gets no more until they are settled.
    fn give_credit(&mut self, now: Instant) {
        for (&device, slot) in &mut self.slots {
            let of_device = |held: &&Held| held.device == Some(device) && held.ended;
            let leases = slot.appetite(now);
            if leases > 0 && self.held.values().filter(of_device).count() < MOST_UNSETTLED {
                slot.credit += leases;
                self.talk.say(Message::Credit(v1::Credit { device, leases }));
            }
        }
    }

    /// Closes the stream and lets the threads end.
    pub(super) async fn leave(mut self, link: JoinHandle<()>) {
        self.uploads.abort_all();
        self.talk.hang_up();
        let abort = link.abort_handle();
        if tokio::time::timeout(FAREWELL, link).await.is_err() {
            abort.abort();
        }
        let idle = self.slots.values().all(|slot| slot.unrendered == 0);
        let slots = std::mem::take(&mut self.slots);
        let threads: Vec<_> = slots.into_values().flat_map(Slot::close).collect();
        if idle {
            // They have nothing left to do, so this is quick; a panic of theirs was told of already.
            let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| drop(t.join())));
            let _ = joined.await;
        }
    }
}
