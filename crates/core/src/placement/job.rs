//! One job in the queue: what it asks, what it still has to give, what of it is out.

use std::collections::{BTreeMap, HashMap};

use super::class::Class;
use super::fleet::{ClassId, DeviceId, blend};
use super::limits::Scopes;
use super::rank::{Rank, rank};
use super::tenants::TenantId;
use super::warmth::LoadId;
use super::work::{Retry, Work};
use crate::id::{Attempt, JobId, WorkerId};
use crate::range::ImageRange;
use crate::terms::{Hold, JobTerms};

/// A job as it enters the queue.
#[derive(Debug, Clone)]
pub struct QueuedJob {
    /// The job.
    pub id: JobId,
    /// What a device must be.
    pub class: Class,
    /// Bytes of the model's weights, to guess what loading them takes; 0 where nobody knows.
    pub weights_bytes: u64,
    /// Whose it is, how urgent, where it may run, what it waits for.
    pub terms: JobTerms,
    /// Those of the jobs it waits for that were cancelled. One that is neither among these nor in the queue is
    /// finished.
    pub cancelled: Vec<JobId>,
    /// When it was submitted, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
    /// Whether its images may be leased; a paused job only keeps its place.
    pub active: bool,
    /// Why it is paused, where that is known.
    pub hold: Option<Hold>,
    /// Images that were never leased.
    pub fresh: Option<ImageRange>,
    /// Workers that fresh images pass over.
    pub fresh_avoid: Vec<WorkerId>,
    /// Ranges to be leased again.
    pub retries: Vec<Retry>,
}

/// A job that another waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) job: JobId,
    /// Image by image instead of whole.
    pub(super) by_image: bool,
    /// It will never give what is waited for.
    pub(super) cancelled: bool,
}

/// A range that is out.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) range: ImageRange,
    pub(super) attempt: Attempt,
    pub(super) avoid: Vec<WorkerId>,
    pub(super) device: DeviceId,
    /// Who renders it beside that device.
    pub(super) twin: Option<DeviceId>,
    /// When it counts as late, in milliseconds since 1970-01-01 UTC; never, once it had a twin.
    pub(super) late_ms: Option<i64>,
}

/// A job's speeds.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    by_device: HashMap<DeviceId, f64>,
    mean: Option<f64>,
}

impl Speeds {
    /// Notes what images took on a device, in milliseconds each.
    pub(super) fn measured(&mut self, device: DeviceId, ms: f64) {
        blend(self.by_device.entry(device).or_insert(ms), ms);
        blend(self.mean.get_or_insert(ms), ms);
    }

    pub(super) fn on(&self, device: DeviceId) -> Option<f64> {
        self.by_device.get(&device).copied()
    }

    /// Over all devices.
    pub(super) fn mean(&self) -> Option<f64> {
        self.mean
    }
}

/// Whether a job stands in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// It has nothing that may be leased now.
    #[default]
    Out,
    /// Any device may take of it.
    Ready,
    /// Its devices are at its own limit: those that hold leases of it may go on.
    Full,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) class: ClassId,
    pub(super) load: LoadId,
    pub(super) scopes: Scopes,
    pub(super) tenant: TenantId,
    pub(super) terms: JobTerms,
    pub(super) created_at_ms: i64,
    pub(super) at_risk: bool,
    pub(super) rank: Rank,
    pub(super) active: bool,
    pub(super) hold: Option<Hold>,
    pub(super) waits: Vec<Wait>,
    pub(super) work: Work,
    /// Ranges that are out, by first image.
    pub(super) out: BTreeMap<u64, Outstanding>,
    /// Devices that hold some of them.
    pub(super) devices: u32,
    pub(super) speeds: Speeds,
    /// Since when something of it could have been leased, or was last, in milliseconds since 1970-01-01 UTC.
    pub(super) waiting_since_ms: i64,
    pub(super) standing: Standing,
    /// Images that count among those that wait for its load.
    pub(super) counted: u64,
    /// Whether its leases stand among those that may be late.
    pub(super) closing: bool,
    /// When it is looked at next for a deferred range, and for its deadline.
    pub(super) timers: [Option<i64>; 2],
}

impl Entry {
    pub(super) fn set_rank(&mut self, id: JobId) {
        self.rank = rank(id, self.created_at_ms, &self.terms, self.at_risk);
    }

    /// Whether nothing outside of it keeps its images back.
    pub(super) fn is_free(&self) -> bool {
        self.active && !self.waits.iter().any(|wait| !wait.by_image || wait.cancelled)
    }

    /// Where it belongs, while images from `cap` on wait for others.
    pub(super) fn standing(&self, cap: u64) -> Standing {
        if !self.is_free() || !self.work.is_open(cap) {
            return Standing::Out;
        }
        if self.is_full() { Standing::Full } else { Standing::Ready }
    }

    /// Whether no further device may render it.
    pub(super) fn is_full(&self) -> bool {
        self.terms.max_devices.is_some_and(|most| self.devices >= most)
    }

    /// Whether all that is left of it is out, so that late leases hold it up.
    pub(super) fn is_closing(&self) -> bool {
        self.active && self.work.waiting() == 0 && !self.out.is_empty()
    }

    /// When each of its leases counts as late that may, by first image.
    pub(super) fn late(&self) -> impl Iterator<Item = (u64, i64)> + '_ {
        self.out.iter().filter_map(|(&lo, out)| Some((lo, out.late_ms?)))
    }

    /// The smallest index that is not settled.
    pub(super) fn low_water(&self) -> Option<u64> {
        [self.out.keys().next().copied(), self.work.first()].into_iter().flatten().min()
    }

    /// Images that have neither a result nor were given up.
    pub(super) fn unsettled(&self) -> u64 {
        self.work.waiting() + self.out.values().map(|out| out.range.len()).sum::<u64>()
    }
}
