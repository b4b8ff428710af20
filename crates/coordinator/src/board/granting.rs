//! From credit to grant: a range is chosen, made durable in the claims lane, and only then sent.

use std::ops::Bound;

use seedfarm_core::LeaseId;
use seedfarm_core::completion::Fence;
use seedfarm_core::placement::Pick;
use tokio::time::Instant;

use super::sessions::SessionId;
use super::{Board, Lease};

/// A range that was chosen for a device and is not durable yet.
#[derive(Debug, Clone)]
pub(crate) struct PendingGrant {
    pub(crate) pick: Pick,
    session: SessionId,
}

/// What became of a lease once it was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grantee {
    /// The worker is there: send the grant.
    Waiting(Fence),
    /// The worker's stream ended meanwhile, or the job did: give the range back.
    Gone(LeaseId),
}

impl Board {
    /// Matches devices that have credit with work, the least loaded first, at most `room` times.
    /// Answers what was chosen, and when there may be more although nothing happens until then, in
    /// milliseconds since 1970-01-01 UTC.
    pub(crate) fn choose(&mut self, room: usize, now_ms: i64) -> (Vec<PendingGrant>, Option<i64>) {
        let target_ms = u64::try_from(self.pace.target.as_millis()).unwrap_or(u64::MAX);
        self.queue.wake(now_ms);
        self.call_back(now_ms);
        let mut chosen = Vec::new();
        let mut after = Bound::Unbounded;
        while let Some(entry) = self.hunger.after(after).filter(|_| chosen.len() < room) {
            if self.queue.is_idle() {
                break;
            }
            after = Bound::Excluded(entry);
            match self.queue.choose(entry.1, now_ms, target_ms) {
                Ok(pick) => chosen.extend(self.reserve(pick)),
                Err(none) => self.hunger.park(entry, none.due_ms),
            }
        }
        (chosen, [self.queue.due_ms(), self.hunger.due_ms()].into_iter().flatten().min())
    }

    /// Devices that found nothing ask again, where something has changed for them.
    fn call_back(&mut self, now_ms: i64) {
        let stirred = self.queue.take_stirred();
        let mut back = self.hunger.due(now_ms);
        if stirred.all {
            back.extend(self.hunger.all_parked());
        } else {
            back.extend(stirred.devices);
        }
        for device in back {
            self.hunger.call(device, self.load_of(device));
        }
    }

    /// Takes a range out of the queue and a credit from the device.
    fn reserve(&mut self, pick: Pick) -> Option<PendingGrant> {
        let device = pick.device;
        let session = self.sessions.get_mut(&device.worker)?;
        let id = session.id;
        let credit = session.credit.get_mut(&device.device)?;
        *credit -= 1;
        if *credit == 0 {
            session.credit.remove(&device.device);
            self.set_hungry(device, false);
        }
        self.queue.take(&pick);
        self.set_load(device, self.load_of(device) + 1);
        Some(PendingGrant { pick, session: id })
    }

    /// A chosen range is durable as a lease.
    pub(crate) fn granted(&mut self, grant: &PendingGrant, fence: Fence, now: Instant) -> Grantee {
        let PendingGrant { pick, session } = grant;
        let worker = pick.device.worker;
        let there = self.sessions.get(&worker).is_some_and(|current| current.id == *session);
        let ending = !there || !self.jobs.contains_key(&pick.job);
        let deadline = now + self.pace.lease_ttl;
        self.put_lease(Lease::new(fence, pick, deadline, ending), now);
        if ending {
            self.not_sent(grant);
            return Grantee::Gone(fence.lease);
        }
        Grantee::Waiting(fence)
    }

    /// A lease was never told to its worker, who still waits for one.
    pub(crate) fn not_sent(&mut self, grant: &PendingGrant) {
        let device = grant.pick.device;
        self.credit(device.worker, grant.session, device.device, 1);
    }

    /// A chosen range could not be made durable: it goes back to where it was, and the device has room.
    /// Of several picks of one job the last goes back first.
    pub(crate) fn not_granted(&mut self, grant: &PendingGrant) {
        let device = grant.pick.device;
        self.queue.put_back(&grant.pick);
        self.set_load(device, self.load_of(device).saturating_sub(1));
        self.not_sent(grant);
    }
}
