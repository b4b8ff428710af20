//! Why a job waits, and why a device has nothing to do: the same rules as the decision, told instead of applied.

use std::collections::BTreeMap;

use super::choose::Search;
use super::class::{Class, Lack};
use super::fleet::DeviceId;
use super::job::{Entry, Standing};
use super::queue::Queue;
use crate::id::JobId;
use crate::terms::{Hold, LimitKey, TenantName};

/// What keeps a job from being rendered, or from being rendered by more devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobReason {
    /// It is paused.
    Paused(Option<Hold>),
    /// All that is not settled is leased.
    AllLeased,
    /// It waits for another job, whole or image by image.
    Waits {
        /// The other.
        job: JobId,
        /// Image by image.
        by_image: bool,
        /// The other was cancelled, so that this never ends by itself.
        cancelled: bool,
    },
    /// Images failed lately and wait before they are tried again.
    Deferred {
        /// How many.
        images: u64,
        /// Until when the first do, in milliseconds since 1970-01-01 UTC.
        until_ms: i64,
    },
    /// A limit on devices is reached.
    AtLimit(Limit),
    /// No worker is connected.
    NobodyThere,
    /// Devices lack something that it needs.
    Lacking {
        /// What.
        lack: Lack,
        /// How many.
        devices: usize,
    },
    /// Devices of workers that take no more work.
    Draining {
        /// How many.
        devices: usize,
    },
    /// Devices of workers on which it failed, while others are there.
    Avoided {
        /// How many.
        devices: usize,
    },
    /// Devices that could render it and have another model or other adapters loaded.
    LoadedElsewhere {
        /// How many.
        devices: usize,
    },
    /// Devices that could render it and have what it needs loaded: they are busy, or others are before it.
    Able {
        /// How many.
        devices: usize,
    },
}

/// What a limit is for, and its number of devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// The job's own.
    Job(u32),
    /// Its tenant's.
    Tenant(u32),
    /// A model's or a licence's.
    Other(LimitKey, u32),
}

/// A tenant among those who compete.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The tenant.
    pub tenant: TenantName,
    /// Its weight.
    pub weight: u32,
    /// Device time over weight, in milliseconds: who has least goes first.
    pub virtual_ms: f64,
    /// The least of all who compete.
    pub least_ms: f64,
    /// How many compete.
    pub competing: usize,
    /// How many of them had less.
    pub before: usize,
    /// Devices that render for it.
    pub devices: u32,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutlook {
    /// Images that are not leased.
    pub waiting: u64,
    /// Images that are leased.
    pub leased: u64,
    /// Devices that render it.
    pub devices: u32,
    /// Ready jobs of its tenant that go before it.
    pub before: usize,
    /// Whether it goes first because of its deadline.
    pub at_risk: bool,
    /// Its tenant's place.
    pub share: Share,
    /// What keeps it.
    pub reasons: Vec<JobReason>,
}

/// Why jobs do not go to a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceReason {
    /// Its worker takes no more work.
    Draining,
    /// There is no unfinished job.
    NoJobs,
    /// It lacks something.
    Lacking(Lack),
    /// They are paused.
    Paused,
    /// All of them is leased.
    AllLeased,
    /// They wait for other jobs.
    Waits,
    /// Their images failed lately and wait before they are tried again.
    Deferred,
    /// A limit on devices is reached.
    AtLimit(Limit),
    /// They failed on its worker, and others are there.
    Avoided,
    /// Those who have loaded what they need will be through with them sooner.
    LeftToOthers,
}

/// How a device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOutlook {
    /// What it would get, had it credit.
    pub next: Option<JobId>,
    /// Why it does not get the others, or any: with the number of jobs each.
    pub reasons: Vec<(DeviceReason, usize)>,
}

impl Queue {
    /// Why a job waits; `None` for one that is not unfinished.
    pub fn why_job(&mut self, job: JobId, now_ms: i64) -> Option<JobOutlook> {
        self.wake(now_ms);
        let entry = self.jobs.get(&job)?;
        let mut reasons = self.own_reasons(entry);
        if entry.work.waiting() > 0 {
            reasons.extend(self.at_limit(entry).map(JobReason::AtLimit));
            reasons.extend(self.device_reasons(entry));
        }
        Some(JobOutlook {
            waiting: entry.work.waiting(),
            leased: entry.unsettled() - entry.work.waiting(),
            devices: entry.devices,
            before: self.before(entry),
            at_risk: entry.at_risk,
            share: self.share(entry),
            reasons,
        })
    }

    /// Why a device has nothing to do; `None` for one that is not there.
    pub fn why_device(&mut self, id: DeviceId, now_ms: i64) -> Option<DeviceOutlook> {
        let next = self.choose(id, now_ms, 0).ok().map(|pick| pick.job);
        let device = self.fleet.device(id)?;
        if device.stopped {
            return Some(DeviceOutlook { next, reasons: vec![(DeviceReason::Draining, self.jobs.len())] });
        }
        let search = Search::new(self, id)?;
        let mut counts = BTreeMap::<DeviceReason, usize>::new();
        for (&job, entry) in &self.jobs {
            if let Some(reason) = self.why_not(&search, id, (job, entry)) {
                *counts.entry(reason).or_default() += 1;
            }
        }
        if self.jobs.is_empty() {
            counts.insert(DeviceReason::NoJobs, 0);
        }
        if next.is_none() && counts.is_empty() {
            counts.insert(DeviceReason::LeftToOthers, self.ready);
        }
        Some(DeviceOutlook { next, reasons: counts.into_iter().collect() })
    }

    /// What keeps each of the connected devices from work of `class`, with the number of devices; empty where
    /// some device may take it.
    pub fn why_nobody(&self, class: &Class) -> Vec<(Option<Lack>, usize)> {
        let mut counts = BTreeMap::<Option<Lack>, usize>::new();
        for (_, device) in self.fleet.devices() {
            let lack = device.offer.lacks(class);
            if lack.is_none() && !device.stopped {
                return Vec::new();
            }
            *counts.entry(lack).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    /// What lies in the job itself.
    fn own_reasons(&self, entry: &Entry) -> Vec<JobReason> {
        let mut reasons = Vec::new();
        if !entry.active {
            reasons.push(JobReason::Paused(entry.hold));
        }
        if entry.work.waiting() == 0 {
            reasons.push(JobReason::AllLeased);
        }
        for wait in &entry.waits {
            let held = !wait.by_image || wait.cancelled || !entry.work.is_open(self.cap_of(entry));
            if held {
                let (job, by_image, cancelled) = (wait.job, wait.by_image, wait.cancelled);
                reasons.push(JobReason::Waits { job, by_image, cancelled });
            }
        }
        if let Some(until_ms) = entry.work.due_ms() {
            reasons.push(JobReason::Deferred { images: entry.work.deferred(), until_ms });
        }
        reasons
    }

    /// The first limit that keeps further devices from a job.
    fn at_limit(&self, entry: &Entry) -> Option<Limit> {
        if let Some(most) = entry.terms.max_devices.filter(|_| entry.is_full()) {
            return Some(Limit::Job(most));
        }
        let tenant = self.tenants.get(entry.tenant);
        if let Some(most) = tenant.policy.max_devices.filter(|_| tenant.is_full()) {
            return Some(Limit::Tenant(most));
        }
        self.limits.reached(entry.scopes).map(|(key, most)| Limit::Other(key.clone(), most))
    }

    /// What lies in the devices: for each the first thing that keeps it.
    fn device_reasons(&self, entry: &Entry) -> Vec<JobReason> {
        if self.fleet.is_empty() {
            return vec![JobReason::NobodyThere];
        }
        let class = self.fleet.class(entry.class);
        let (mut lacks, mut rest) = (BTreeMap::<Lack, usize>::new(), [0; 4]);
        for (id, device) in self.fleet.devices() {
            let lack = device.offer.lacks(class);
            let loaded = device.loaded.is_some_and(|loaded| loaded.load == entry.load);
            let avoided = || self.is_avoided(id, entry);
            match lack {
                Some(lack) => *lacks.entry(lack).or_default() += 1,
                None if device.stopped => rest[0] += 1,
                None if avoided() => rest[1] += 1,
                None if !loaded && device.loaded.is_some() => rest[2] += 1,
                None => rest[3] += 1,
            }
        }
        let lacks = lacks.into_iter().map(|(lack, devices)| JobReason::Lacking { lack, devices });
        let [draining, avoided, elsewhere, able] = rest;
        let counted = [
            (draining, JobReason::Draining { devices: draining }),
            (avoided, JobReason::Avoided { devices: avoided }),
            (elsewhere, JobReason::LoadedElsewhere { devices: elsewhere }),
            (able, JobReason::Able { devices: able }),
        ];
        lacks
            .chain(counted.into_iter().filter(|(devices, _)| *devices > 0).map(|(_, reason)| reason))
            .collect()
    }

    /// Whether every range that is open passes the device over.
    fn is_avoided(&self, id: DeviceId, entry: &Entry) -> bool {
        let mut open = entry.work.open(self.cap_of(entry)).peekable();
        open.peek().is_some() && open.all(|open| !self.fleet.may_take(id.worker, entry.class, open.avoid))
    }

    fn why_not(
        &self,
        search: &Search<'_>,
        id: DeviceId,
        (job, entry): (JobId, &Entry),
    ) -> Option<DeviceReason> {
        let offer = &self.fleet.device(id)?.offer;
        if let Some(lack) = offer.lacks(self.fleet.class(entry.class)) {
            return Some(DeviceReason::Lacking(lack));
        }
        if !entry.active {
            return Some(DeviceReason::Paused);
        }
        if entry.work.waiting() == 0 {
            return Some(DeviceReason::AllLeased);
        }
        if entry.standing == Standing::Out {
            let deferred = entry.work.deferred() == entry.work.waiting();
            return Some(if deferred { DeviceReason::Deferred } else { DeviceReason::Waits });
        }
        if let Some(limit) = search.bar(job, entry) {
            return Some(DeviceReason::AtLimit(limit));
        }
        if self.is_avoided(id, entry) {
            return Some(DeviceReason::Avoided);
        }
        search.leaves(entry).then_some(DeviceReason::LeftToOthers)
    }

    fn before(&self, entry: &Entry) -> usize {
        let own = self.classes.iter().flatten().filter_map(|class| class.ready.get(&entry.tenant));
        own.map(|ranks| ranks.range(..entry.rank).count()).sum()
    }

    fn share(&self, entry: &Entry) -> Share {
        let own = self.tenants.get(entry.tenant);
        let competing = || self.tenants.iter().filter(|tenant| tenant.competes());
        let least = competing().map(|tenant| tenant.virtual_ms).min_by(f64::total_cmp);
        Share {
            tenant: own.name.clone(),
            weight: own.policy.weight,
            virtual_ms: own.virtual_ms,
            least_ms: least.unwrap_or(own.virtual_ms),
            competing: competing().count(),
            before: competing().filter(|tenant| tenant.virtual_ms < own.virtual_ms).count(),
            devices: own.devices,
        }
    }
}
