//! Who is there to render: connected workers, what their devices offer and how fast they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Group;
use super::chunk::Speed;
use crate::digest::AdapterDigest;
use crate::id::{JobId, WorkerId};

/// Weight of the newest measurement in a device's speed.
const NEWEST: f64 = 0.3;

/// One device of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// The worker.
    pub worker: WorkerId,
    /// The device's index within the worker, from 0.
    pub device: u32,
}

#[derive(Debug, Default)]
struct Device {
    groups: BTreeSet<Group>,
    /// Milliseconds an image.
    by_job: HashMap<JobId, f64>,
    by_group: HashMap<Group, f64>,
}

/// The connected workers.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: BTreeMap<DeviceId, Device>,
    /// Devices that offer a group, counted by worker; workers that leave are not in it.
    eligible: HashMap<Group, BTreeMap<WorkerId, usize>>,
    /// What each worker has besides models.
    adapters: HashMap<WorkerId, BTreeSet<AdapterDigest>>,
}

impl Fleet {
    /// A worker is there, with what each of its devices offers and the adapters that it has. What was
    /// known of it before is replaced, but for measured speeds of devices that stay.
    pub fn join(
        &mut self,
        worker: WorkerId,
        devices: impl IntoIterator<Item = (u32, BTreeSet<Group>)>,
        adapters: BTreeSet<AdapterDigest>,
    ) {
        let mut before = self.split_off(worker);
        self.stop(worker);
        self.adapters.insert(worker, adapters);
        for (device, groups) in devices {
            let id = DeviceId { worker, device };
            for &group in &groups {
                *self.eligible.entry(group).or_default().entry(worker).or_default() += 1;
            }
            let mut entry = before.remove(&id).unwrap_or_default();
            entry.groups = groups;
            self.devices.insert(id, entry);
        }
    }

    /// A worker is gone.
    pub fn leave(&mut self, worker: WorkerId) {
        self.split_off(worker);
        self.stop(worker);
        self.adapters.remove(&worker);
    }

    /// A worker takes no more work: it counts as eligible no longer, and nothing is chosen for it.
    pub fn stop(&mut self, worker: WorkerId) {
        self.eligible.retain(|_, workers| {
            workers.remove(&worker);
            !workers.is_empty()
        });
    }

    /// How many connected workers could render for `group` with the adapters `needs`.
    pub fn offers(&self, group: Group, needs: &[AdapterDigest]) -> usize {
        self.workers_for(group, needs).count()
    }

    /// Whether `worker` has all adapters in `needs`.
    pub(super) fn has(&self, worker: WorkerId, needs: &[AdapterDigest]) -> bool {
        let has = |need| self.adapters.get(&worker).is_some_and(|adapters| adapters.contains(need));
        needs.iter().all(has)
    }

    fn workers_for<'a>(
        &'a self,
        group: Group,
        needs: &'a [AdapterDigest],
    ) -> impl Iterator<Item = (&'a WorkerId, usize)> {
        let workers = self.eligible.get(&group).into_iter().flatten();
        workers.filter(|(worker, _)| self.has(**worker, needs)).map(|(worker, &devices)| (worker, devices))
    }

    /// Notes how long images of `job` took on a device, in milliseconds each.
    pub fn measured(&mut self, id: DeviceId, job: JobId, group: Group, ms_per_image: f64) {
        if let Some(device) = self.devices.get_mut(&id) {
            blend(device.by_job.entry(job).or_insert(ms_per_image), ms_per_image);
            blend(device.by_group.entry(group).or_insert(ms_per_image), ms_per_image);
        }
    }

    /// Drops the speeds measured in a job that is over.
    pub fn forget(&mut self, job: JobId) {
        for device in self.devices.values_mut() {
            device.by_job.remove(&job);
        }
    }

    /// The groups a device offers; none when its worker leaves or is not there.
    pub(super) fn groups_of(&self, id: DeviceId) -> impl Iterator<Item = Group> + '_ {
        let groups = self.devices.get(&id).map(|device| device.groups.iter().copied());
        groups.into_iter().flatten().filter(move |group| self.is_eligible(id.worker, *group))
    }

    fn is_eligible(&self, worker: WorkerId, group: Group) -> bool {
        self.eligible.get(&group).is_some_and(|workers| workers.contains_key(&worker))
    }

    /// Whether work of `group` with the adapters `needs` that avoids `avoid` may go to `worker`: it is not
    /// avoided, or every eligible worker is.
    pub(super) fn may_take(
        &self,
        worker: WorkerId,
        group: Group,
        needs: &[AdapterDigest],
        avoid: &[WorkerId],
    ) -> bool {
        if !avoid.contains(&worker) {
            return true;
        }
        self.workers_for(group, needs).all(|(other, _)| avoid.contains(other))
    }

    /// Devices eligible for `group` with the adapters `needs`.
    pub(super) fn devices_for(&self, group: Group, needs: &[AdapterDigest]) -> usize {
        self.workers_for(group, needs).map(|(_, devices)| devices).sum()
    }

    /// What is known of a device's speed in a job.
    pub(super) fn speed(&self, id: DeviceId, job: JobId, group: Group) -> Speed {
        let Some(device) = self.devices.get(&id) else { return Speed::Unknown };
        let measured = device.by_job.get(&job).copied().map(Speed::Measured);
        let guessed = || device.by_group.get(&group).copied().map(Speed::Guessed);
        measured.or_else(guessed).unwrap_or(Speed::Unknown)
    }

    fn split_off(&mut self, worker: WorkerId) -> BTreeMap<DeviceId, Device> {
        let first = DeviceId { worker, device: 0 };
        let mut own = self.devices.split_off(&first);
        let mut others = match own.keys().find(|id| id.worker != worker).copied() {
            Some(next) => own.split_off(&next),
            None => BTreeMap::new(),
        };
        self.devices.append(&mut others);
        own
    }
}

/// Moves an average towards the newest measurement.
fn blend(average: &mut f64, newest: f64) {
    *average += NEWEST * (newest - *average);
}
