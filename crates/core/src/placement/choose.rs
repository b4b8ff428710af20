//! The decision: what a device renders next.

use std::cell::Cell;
use std::collections::btree_set::Iter;
use std::iter::Peekable;

use super::bits::Bits;
use super::chunk::{self, Speed};
use super::fleet::{ClassId, Device, DeviceId};
use super::job::{Entry, Standing};
use super::limits::Held;
use super::queue::{Queue, ReadyClass};
use super::rank::Rank;
use super::tenants::TenantId;
use super::warmth::{LoadId, Loaded, bound_ms};
use super::why::Limit;
use super::work::{Open, Source};
use crate::id::{Attempt, JobId, WorkerId};
use crate::range::ImageRange;
use crate::terms::Urgency;

/// Most jobs that one decision looks at.
const MAX_JOBS: usize = 256;
/// Most ranges of one job that one decision looks at.
const MAX_RANGES: usize = 64;
/// Most late leases that one decision looks at.
const MAX_LATE: usize = 64;

/// What a device is to render next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The job.
    pub job: JobId,
    /// The device.
    pub device: DeviceId,
    /// The images.
    pub range: ImageRange,
    /// Which attempt this is, from 1.
    pub attempt: Attempt,
    /// Workers that the range passes over, to be kept with the lease.
    pub avoid: Vec<WorkerId>,
    /// Where the range comes from.
    pub source: Source,
}

/// There is nothing for a device; [`Queue::why_device`] says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoWork {
    /// When there may be something although nothing happens until then, in milliseconds since 1970-01-01 UTC.
    pub due_ms: Option<i64>,
}

impl Queue {
    /// Chooses what `device` renders next, for about `target_ms`. It decides and changes nothing but what
    /// the time that is told changes.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn choose(&mut self, device: DeviceId, now_ms: i64, target_ms: u64) -> Result<Pick, NoWork> {
        self.wake(now_ms);
        let Some(search) = Search::new(self, device) else { return Err(NoWork::default()) };
        if let Some(found) = search.decide() {
            return Ok(search.pick(&found, target_ms));
        }
        search.late().ok_or(NoWork { due_ms: search.due_ms.get() })
    }
}

/// A job that a device may take of, with the range that it would take from.
pub(super) struct Candidate<'a> {
    job: JobId,
    entry: &'a Entry,
    open: Open<'a>,
}

/// One decision in the making.
pub(super) struct Search<'a> {
    queue: &'a Queue,
    id: DeviceId,
    device: &'a Device,
    held: Option<&'a Held>,
    /// Classes with ready jobs that the device may take and that no limit keeps from it.
    classes: Vec<&'a ReadyClass>,
    /// Jobs at their own limit that it may go on with.
    goes_on: Vec<(TenantId, Rank, LoadId)>,
    /// How many jobs may still be looked at.
    budget: Cell<usize>,
    /// When the first of the passed-over jobs has waited for long enough.
    due_ms: Cell<Option<i64>>,
}

impl<'a> Search<'a> {
    /// Gathers what a device may take; `None` for one that is not there.
    pub(super) fn new(queue: &'a Queue, id: DeviceId) -> Option<Self> {
        let device = queue.fleet.device(id)?;
        let held = queue.holdings.get(&id);
        let ready = |class: &ClassId| queue.class(*class).filter(|class| !class.ready.is_empty());
        let mut classes: Vec<&ReadyClass> = Vec::new();
        if queue.ready > 0 {
            let all = device.classes.iter().filter_map(ready);
            classes.extend(all.filter(|class| queue.limits.reached_for(class.scopes, held).is_none()));
        }
        let goes_on = held.map(|held| going_on(queue, device, held)).unwrap_or_default();
        let (budget, due_ms) = (Cell::new(MAX_JOBS), Cell::new(None));
        Some(Self { queue, id, device, held, classes, goes_on, budget, due_ms })
    }

    /// The best that there is: the tenant's turn, weighed against what the device has loaded.
    fn decide(&self) -> Option<Candidate<'a>> {
        let first = self.find(None, |_| true)?;
        let Some(loaded) = self.device.loaded else { return self.cold(first) };
        if first.entry.load == loaded.load {
            return Some(first);
        }
        let settled = self.queue.now_ms >= self.stays_until(loaded);
        if self.is_overdue(&first) && (settled || first.is_pressing()) {
            return Some(first);
        }
        match self.find(Some(loaded.load), |_| true) {
            Some(_) if settled && self.queue.loads.is_worth(first.entry.load, Some(loaded.load)) => {
                Some(first)
            }
            Some(warm) => Some(warm),
            None => self.cold(first),
        }
    }

    /// The first that is worth loading something for, while the device has nothing else to do. What those
    /// who have it loaded should be through with sooner is left to them, but no longer than a swap takes.
    fn cold(&self, first: Candidate<'a>) -> Option<Candidate<'a>> {
        let worth = |found: &Candidate<'a>| {
            let load = found.entry.load;
            let swap_ms = self.queue.loads.get(load).swap_ms() as i64;
            self.queue.loads.is_worth(load, None) || self.has_waited(found, swap_ms)
        };
        if worth(&first) { Some(first) } else { self.find(None, worth) }
    }

    fn stays_until(&self, loaded: Loaded) -> i64 {
        loaded.since_ms.saturating_add(self.queue.loads.get(loaded.load).residency_ms())
    }

    /// Whether a job has waited for so long that no device stays away from it any more.
    fn is_overdue(&self, found: &Candidate<'_>) -> bool {
        let urgency = if found.is_pressing() { Urgency::Interactive } else { Urgency::Bulk };
        self.has_waited(found, bound_ms(urgency))
    }

    /// Whether nothing of a job was leased for so long; if not, notes when that will be.
    fn has_waited(&self, found: &Candidate<'_>, ms: i64) -> bool {
        let due = found.entry.waiting_since_ms.saturating_add(ms);
        if due > self.queue.now_ms {
            self.due_ms.set([self.due_ms.get(), Some(due)].into_iter().flatten().min());
        }
        due <= self.queue.now_ms
    }

    /// The first job in order that the device may take of and that `accept` takes: tenants by their turn,
    /// those first that the device's owner prefers; then by rank. `only` keeps to what needs one load.
    pub(super) fn find(
        &self,
        only: Option<LoadId>,
        mut accept: impl FnMut(&Candidate<'a>) -> bool,
    ) -> Option<Candidate<'a>> {
        self.budget.set(MAX_JOBS);
        let mut tenants = self.tenants(only);
        let preferred = self.preferred();
        while let Some(tenant) = self.next_tenant(&tenants, &preferred) {
            tenants.remove(tenant.index());
            for job in self.in_order(tenant, only) {
                let left = self.budget.get().checked_sub(1)?;
                self.budget.set(left);
                if let Some(found) = self.candidate(job).filter(&mut accept) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Tenants with something for the device, but for those at their limit that it does not render for.
    fn tenants(&self, only: Option<LoadId>) -> Bits {
        let mut tenants = Bits::default();
        let wanted = |load: LoadId| only.is_none_or(|only| only == load);
        self.classes
            .iter()
            .filter(|class| wanted(class.load))
            .for_each(|class| tenants.add_all(&class.tenants));
        self.goes_on
            .iter()
            .filter(|(.., load)| wanted(*load))
            .for_each(|(tenant, ..)| tenants.insert(tenant.index()));
        let full = self.queue.tenants.full();
        let barred = full.iter().filter(|&index| tenants.contains(index));
        let others =
            barred.filter(|&index| !self.held.is_some_and(|held| held.has_tenant(TenantId(index as u32))));
        let barred: Vec<usize> = others.collect();
        barred.into_iter().for_each(|index| tenants.remove(index));
        tenants
    }

    fn preferred(&self) -> Bits {
        let mut preferred = Bits::default();
        let names = self.device.offer.acceptance.prefer_tenants.iter();
        names.filter_map(|name| self.queue.tenants.find(name)).for_each(|id| preferred.insert(id.index()));
        preferred
    }

    fn next_tenant(&self, tenants: &Bits, preferred: &Bits) -> Option<TenantId> {
        self.queue.tenants.least_in(tenants, preferred).or_else(|| self.queue.tenants.least(tenants))
    }

    /// One tenant's jobs that the device may take of, best rank first.
    fn in_order(&self, tenant: TenantId, only: Option<LoadId>) -> impl Iterator<Item = JobId> + use<'a> {
        let wanted = |load: LoadId| only.is_none_or(|only| only == load);
        let classes = self.classes.iter().filter(|class| wanted(class.load));
        let ready = classes.filter(|class| class.tenants.contains(tenant.index()));
        let mut heads: Vec<Peekable<Iter<'a, Rank>>> =
            ready.filter_map(|class| class.ready.get(&tenant)).map(|ranks| ranks.iter().peekable()).collect();
        let own = self.goes_on.iter().filter(|(of, _, load)| *of == tenant && wanted(*load));
        let mut own: Vec<Rank> = own.map(|&(_, rank, _)| rank).collect();
        own.sort_unstable_by(|a, b| b.cmp(a));
        std::iter::from_fn(move || {
            let ranked = heads.iter_mut().enumerate().filter_map(|(at, head)| Some((**head.peek()?, at)));
            match (ranked.min(), own.last().copied()) {
                (Some((rank, _)), Some(mine)) if mine < rank => own.pop(),
                (Some((_, at)), _) => heads[at].next().copied(),
                (None, _) => own.pop(),
            }
            .map(|(_, job)| job)
        })
    }

    /// The first range of a job that the device may have.
    fn candidate(&self, job: JobId) -> Option<Candidate<'a>> {
        let entry = self.queue.jobs.get(&job)?;
        let cap = self.queue.cap_of(entry);
        let may = |open: &Open<'_>| self.queue.fleet.may_take(self.id.worker, entry.class, open.avoid);
        let open = entry.work.open(cap).take(MAX_RANGES).find(may)?;
        Some(Candidate { job, entry, open })
    }

    fn pick(&self, found: &Candidate<'_>, target_ms: u64) -> Pick {
        let (entry, open) = (found.entry, &found.open);
        let measured = entry.speeds.on(self.id).map(Speed::Measured);
        let guessed = || self.queue.fleet.speed(self.id, entry.load).map(Speed::Guessed);
        let speed = measured.or_else(guessed).unwrap_or(Speed::Unknown);
        let devices = self.queue.fleet.eligible(entry.class);
        let (range, _) = open.range.take(chunk::size(target_ms, speed, entry.work.waiting(), devices));
        let rest = ImageRange::new(range.hi(), open.end);
        let source = open.row.map_or(Source::Fresh, |row| Source::Retry { row, rest });
        let avoid = open.avoid.to_vec();
        Pick { job: found.job, device: self.id, range, attempt: open.attempt, avoid, source }
    }

    /// A late lease of another worker, to be rendered a second time.
    fn late(&self) -> Option<Pick> {
        for &(late, job, lo) in self.queue.closing.iter().take(MAX_LATE) {
            if late > self.queue.now_ms {
                self.due_ms.set([self.due_ms.get(), Some(late)].into_iter().flatten().min());
                return None;
            }
            if let Some(pick) = self.twin(job, lo) {
                return Some(pick);
            }
        }
        None
    }

    fn twin(&self, job: JobId, lo: u64) -> Option<Pick> {
        let entry = self.queue.jobs.get(&job)?;
        let out = entry.out.get(&lo)?;
        let worker = self.id.worker;
        let able = worker != out.device.worker && self.device.classes.contains(&entry.class);
        if !able || out.avoid.contains(&worker) || self.bar(job, entry).is_some() {
            return None;
        }
        let mut avoid = out.avoid.clone();
        avoid.push(out.device.worker);
        let (range, attempt, source) = (out.range, out.attempt, Source::Twin);
        Some(Pick { job, device: self.id, range, attempt, avoid, source })
    }

    /// The limit that keeps the device from a job, if one does.
    pub(super) fn bar(&self, job: JobId, entry: &Entry) -> Option<Limit> {
        let (queue, held) = (self.queue, self.held);
        let tenant = queue.tenants.get(entry.tenant);
        let own = entry.terms.max_devices.filter(|_| entry.is_full());
        if let Some(most) = own.filter(|_| !held.is_some_and(|held| held.has_job(job))) {
            return Some(Limit::Job(most));
        }
        let tenants = tenant.policy.max_devices.filter(|_| tenant.is_full());
        if let Some(most) = tenants.filter(|_| !held.is_some_and(|held| held.has_tenant(entry.tenant))) {
            return Some(Limit::Tenant(most));
        }
        queue.limits.reached_for(entry.scopes, held).map(|(key, most)| Limit::Other(key.clone(), most))
    }

    /// Whether the device leaves a job to those who have loaded what it needs: loading it is not worth the swap.
    pub(super) fn leaves(&self, entry: &Entry) -> bool {
        let (load, loaded) = (entry.load, self.device.loaded);
        let elsewhere = loaded.is_none_or(|loaded| loaded.load != load);
        elsewhere && !self.queue.loads.is_worth(load, None)
    }
}

impl Candidate<'_> {
    /// Whether somebody waits for it, or its deadline is at risk.
    fn is_pressing(&self) -> bool {
        self.entry.at_risk || self.entry.terms.urgency == Urgency::Interactive
    }
}

/// Jobs at their own limit of which a device holds leases: it may go on with them.
fn going_on(queue: &Queue, device: &Device, held: &Held) -> Vec<(TenantId, Rank, LoadId)> {
    let mut own: Vec<(TenantId, Rank, LoadId)> = Vec::new();
    for lease in &held.leases {
        let Some(entry) = queue.jobs.get(&lease.job).filter(|entry| entry.standing == Standing::Full) else {
            continue;
        };
        let known = own.iter().any(|(_, (_, job), _)| *job == lease.job);
        if known || !device.classes.contains(&entry.class) {
            continue;
        }
        if queue.limits.reached_for(entry.scopes, Some(held)).is_none() {
            own.push((entry.tenant, entry.rank, entry.load));
        }
    }
    own
}
