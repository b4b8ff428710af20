//! Devices that have credit: those that ask for work, and those that found none and wait for a change.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use seedfarm_core::placement::DeviceId;

/// A device by how much it holds.
pub(super) type Asking = (usize, DeviceId);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Hunger {
    /// Those that hold least first.
    asking: BTreeSet<Asking>,
    /// When each that found nothing asks again by itself, in milliseconds since 1970-01-01 UTC.
    parked: HashMap<DeviceId, Option<i64>>,
    by_due: BTreeSet<(i64, DeviceId)>,
}

impl Hunger {
    /// The next that asks.
    pub(super) fn after(&self, after: Bound<Asking>) -> Option<Asking> {
        self.asking.range((after, Bound::Unbounded)).next().copied()
    }

    /// A device has credit, and so asks.
    pub(super) fn ask(&mut self, asking: Asking) {
        self.unpark(asking.1);
        self.asking.insert(asking);
    }

    /// A device has no credit any more.
    pub(super) fn rest(&mut self, asking: Asking) {
        self.unpark(asking.1);
        self.asking.remove(&asking);
    }

    /// A device holds more than before, or less.
    pub(super) fn moved(&mut self, before: Asking, load: usize) {
        if self.asking.remove(&before) {
            self.asking.insert((load, before.1));
        }
    }

    /// A device found nothing.
    pub(super) fn park(&mut self, asking: Asking, due_ms: Option<i64>) {
        self.asking.remove(&asking);
        self.parked.insert(asking.1, due_ms);
        self.by_due.extend(due_ms.map(|due| (due, asking.1)));
    }

    /// A device that found nothing, if it is one, asks again.
    pub(super) fn call(&mut self, device: DeviceId, load: usize) {
        if self.unpark(device) {
            self.asking.insert((load, device));
        }
    }

    pub(super) fn all_parked(&self) -> Vec<DeviceId> {
        self.parked.keys().copied().collect()
    }

    /// Those that found nothing and whose time has come.
    pub(super) fn due(&self, now_ms: i64) -> Vec<DeviceId> {
        self.by_due.iter().take_while(|(due, _)| *due <= now_ms).map(|&(_, device)| device).collect()
    }

    /// When the first asks again by itself.
    pub(super) fn due_ms(&self) -> Option<i64> {
        self.by_due.first().map(|&(due, _)| due)
    }

    fn unpark(&mut self, device: DeviceId) -> bool {
        let Some(due_ms) = self.parked.remove(&device) else { return false };
        if let Some(due) = due_ms {
            self.by_due.remove(&(due, device));
        }
        true
    }
}
