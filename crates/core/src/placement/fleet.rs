//! Who is there to render: connected workers, what their devices offer, how fast they are and what they
//! have loaded.
//!
//! Which classes of work a device may take is worked out when its worker joins and when a new class turns
//! up, never when work is chosen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::class::{Class, Offer};
use super::warmth::{LoadId, Loaded};
use crate::digest::ModelDigest;
use crate::id::WorkerId;

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

/// A class by its number; numbers of classes without jobs are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClassId(pub(super) u32);

impl ClassId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) offer: Offer,
    /// Classes it may take, in no order; none while its worker leaves.
    pub(super) classes: Vec<ClassId>,
    pub(super) stopped: bool,
    /// What it has in memory.
    pub(super) loaded: Option<Loaded>,
    /// Milliseconds an image, by what was loaded.
    speeds: HashMap<LoadId, f64>,
}

/// A class with the devices that may take it.
#[derive(Debug)]
struct Known {
    class: Class,
    /// Jobs of it; a number without jobs is free.
    jobs: usize,
    /// Devices that may take it, counted by worker.
    workers: BTreeMap<WorkerId, usize>,
    devices: usize,
}

/// The connected workers, and the classes of the jobs that there are.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: BTreeMap<DeviceId, Device>,
    by_model: HashMap<ModelDigest, BTreeSet<DeviceId>>,
    classes: Vec<Known>,
    numbers: HashMap<Class, ClassId>,
    classes_by_model: HashMap<ModelDigest, Vec<ClassId>>,
    free: Vec<ClassId>,
}

impl Fleet {
    /// A worker is there, with what each of its devices offers. What was known of it before is replaced,
    /// but for speeds and what is loaded on devices that stay. Answers what others had loaded.
    pub(super) fn join(
        &mut self,
        worker: WorkerId,
        offers: impl IntoIterator<Item = (u32, Offer)>,
    ) -> Vec<Loaded> {
        let mut before = self.split_off(worker);
        for (device, offer) in offers {
            let id = DeviceId { worker, device };
            let known = before.remove(&id).unwrap_or_default();
            for &model in &offer.models {
                self.by_model.entry(model).or_default().insert(id);
            }
            let classes = self.takes(&offer);
            classes.iter().for_each(|&class| self.admit(class, worker));
            self.devices.insert(id, Device { offer, classes, stopped: false, ..known });
        }
        before.into_values().filter_map(|device| device.loaded).collect()
    }

    /// A worker is gone. Answers what its devices had loaded.
    pub(super) fn leave(&mut self, worker: WorkerId) -> Vec<Loaded> {
        self.split_off(worker).into_values().filter_map(|device| device.loaded).collect()
    }

    /// A worker takes no more work: it counts as eligible no longer, and nothing is chosen for it.
    pub(super) fn stop(&mut self, worker: WorkerId) {
        for id in self.devices_of(worker) {
            let Some(device) = self.devices.get_mut(&id) else { continue };
            device.stopped = true;
            let classes = std::mem::take(&mut device.classes);
            classes.into_iter().for_each(|class| self.dismiss(class, worker));
        }
    }

    /// The number of a class, for one job more of it.
    pub(super) fn enter(&mut self, class: &Class) -> ClassId {
        if let Some(&id) = self.numbers.get(class) {
            self.classes[id.index()].jobs += 1;
            return id;
        }
        let known = Known { class: class.clone(), jobs: 1, workers: BTreeMap::new(), devices: 0 };
        let id = match self.free.pop() {
            Some(id) => {
                self.classes[id.index()] = known;
                id
            }
            None => {
                self.classes.push(known);
                ClassId(u32::try_from(self.classes.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.numbers.insert(class.clone(), id);
        self.classes_by_model.entry(class.group.model).or_default().push(id);
        self.open_to(id, class);
        id
    }

    /// Finds the devices that may take a class that is new.
    fn open_to(&mut self, id: ClassId, class: &Class) {
        let having: Vec<DeviceId> =
            self.by_model.get(&class.group.model).into_iter().flatten().copied().collect();
        for at in having {
            let Some(device) = self.devices.get_mut(&at) else { continue };
            if !device.stopped && device.offer.lacks(class).is_none() {
                device.classes.push(id);
                self.admit(id, at.worker);
            }
        }
    }

    /// One job of a class is over; the last one frees its number. Answers whether it did.
    pub(super) fn exit(&mut self, id: ClassId) -> bool {
        let known = &mut self.classes[id.index()];
        known.jobs -= 1;
        if known.jobs > 0 {
            return false;
        }
        let workers = std::mem::take(&mut known.workers);
        let class = known.class.clone();
        for worker in workers.into_keys() {
            for at in self.devices_of(worker) {
                self.devices.entry(at).and_modify(|device| device.classes.retain(|&other| other != id));
            }
        }
        self.numbers.remove(&class);
        if let Some(ids) = self.classes_by_model.get_mut(&class.group.model) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.classes_by_model.remove(&class.group.model);
            }
        }
        self.free.push(id);
        true
    }

    pub(super) fn class(&self, id: ClassId) -> &Class {
        &self.classes[id.index()].class
    }

    /// How many connected workers may take work of `class`, whether a job asks for it or not.
    pub fn workers_for(&self, class: &Class) -> usize {
        let having = self.by_model.get(&class.group.model).into_iter().flatten();
        let able = having.filter(|id| {
            self.devices.get(id).is_some_and(|device| !device.stopped && device.offer.lacks(class).is_none())
        });
        able.map(|id| id.worker).collect::<BTreeSet<_>>().len()
    }

    /// Devices of connected workers, with those that leave.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    pub(super) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(&id)
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        self.devices.iter().map(|(&id, device)| (id, device))
    }

    /// Devices of workers that may take a class.
    pub(super) fn eligible_ids(&self, class: ClassId) -> Vec<DeviceId> {
        let workers = self.classes.get(class.index()).into_iter().flat_map(|known| known.workers.keys());
        workers.flat_map(|&worker| self.devices_of(worker)).collect()
    }

    /// How many devices may take a class.
    pub(super) fn eligible(&self, class: ClassId) -> usize {
        self.classes[class.index()].devices
    }

    /// Whether work of `class` that avoids `avoid` may go to `worker`: it is not avoided, or every
    /// eligible worker is (forgiveness).
    pub(super) fn may_take(&self, worker: WorkerId, class: ClassId, avoid: &[WorkerId]) -> bool {
        if !avoid.contains(&worker) {
            return true;
        }
        self.classes[class.index()].workers.keys().all(|other| avoid.contains(other))
    }

    /// Milliseconds an image with something loaded, where that was measured.
    pub(super) fn speed(&self, id: DeviceId, load: LoadId) -> Option<f64> {
        self.devices.get(&id)?.speeds.get(&load).copied()
    }

    /// Notes how long images took on a device, in milliseconds each.
    pub(super) fn measured(&mut self, id: DeviceId, load: LoadId, ms_per_image: f64) {
        if let Some(device) = self.devices.get_mut(&id) {
            blend(device.speeds.entry(load).or_insert(ms_per_image), ms_per_image);
        }
    }

    /// Notes what a device has loaded. Answers what it had before.
    pub(super) fn load(&mut self, id: DeviceId, loaded: Loaded) -> Option<Option<Loaded>> {
        self.devices.get_mut(&id).map(|device| device.loaded.replace(loaded))
    }

    fn takes(&self, offer: &Offer) -> Vec<ClassId> {
        let of_models = offer.models.iter().filter_map(|model| self.classes_by_model.get(model)).flatten();
        of_models.copied().filter(|id| offer.lacks(self.class(*id)).is_none()).collect()
    }

    fn admit(&mut self, class: ClassId, worker: WorkerId) {
        let known = &mut self.classes[class.index()];
        *known.workers.entry(worker).or_default() += 1;
        known.devices += 1;
    }

    fn dismiss(&mut self, class: ClassId, worker: WorkerId) {
        let known = &mut self.classes[class.index()];
        known.devices -= 1;
        if let Some(devices) = known.workers.get_mut(&worker) {
            *devices -= 1;
            if *devices == 0 {
                known.workers.remove(&worker);
            }
        }
    }

    fn devices_of(&self, worker: WorkerId) -> Vec<DeviceId> {
        let all = DeviceId { worker, device: 0 }..=DeviceId { worker, device: u32::MAX };
        self.devices.range(all).map(|(&id, _)| id).collect()
    }

    /// Takes a worker's devices out of every index.
    fn split_off(&mut self, worker: WorkerId) -> BTreeMap<DeviceId, Device> {
        let mut own = BTreeMap::new();
        for id in self.devices_of(worker) {
            let Some(mut device) = self.devices.remove(&id) else { continue };
            let classes = std::mem::take(&mut device.classes);
            classes.into_iter().for_each(|class| self.dismiss(class, worker));
            for model in &device.offer.models {
                if let Some(having) = self.by_model.get_mut(model) {
                    having.remove(&id);
                    if having.is_empty() {
                        self.by_model.remove(model);
                    }
                }
            }
            own.insert(id, device);
        }
        own
    }
}

/// Moves an average towards the newest measurement.
pub(super) fn blend(average: &mut f64, newest: f64) {
    *average += NEWEST * (newest - *average);
}
