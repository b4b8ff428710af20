//! Leases as they go out and end: what is charged, counted and learnt.

use super::choose::Pick;
use super::fleet::DeviceId;
use super::job::Outstanding;
use super::limits::HeldLease;
use super::queue::Queue;
use super::warmth::{LoadId, Loaded};
use super::work::{Retry, Source};
use crate::id::{Attempt, JobId, WorkerId};
use crate::range::ImageRange;

/// How many times its expected time a lease may take before it is rendered a second time.
const LATE: i64 = 2;
/// A lease is never late before this, in milliseconds.
const LATE_MS: i64 = 10_000;

/// How long the images of a lease took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How many there are, at least 1.
    pub images: u64,
    /// All of them, in milliseconds.
    pub total_ms: u64,
    /// The first, in milliseconds: a device that had to load something needs longer for it.
    pub first_ms: u64,
}

/// A lease that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The job.
    pub job: JobId,
    /// Its images.
    pub range: ImageRange,
    /// Who held it.
    pub device: DeviceId,
    /// How long its images took; absent when none came.
    pub timing: Option<Timing>,
}

/// A lease that went out before this queue was built.
#[derive(Debug, Clone)]
pub struct Leased {
    /// The job.
    pub job: JobId,
    /// Its images.
    pub range: ImageRange,
    /// Who holds it.
    pub device: DeviceId,
    /// Which attempt it is.
    pub attempt: Attempt,
    /// Workers that the range passes over.
    pub avoid: Vec<WorkerId>,
    /// Whether it stands beside another lease of the same images.
    pub twin: bool,
    /// Whether it must not be rendered a second time: it was, or it is itself the second.
    pub twinned: bool,
}

impl Queue {
    /// Takes what was chosen out of the queue.
    pub fn take(&mut self, pick: &Pick) {
        let Some(entry) = self.jobs.get_mut(&pick.job) else { return };
        entry.work.take(pick.range, pick.source);
        entry.waiting_since_ms = self.now_ms;
        let load = entry.load;
        let swapped = self.load_on(pick.device, load);
        let lease = Leased {
            job: pick.job,
            range: pick.range,
            device: pick.device,
            attempt: pick.attempt,
            avoid: pick.avoid.clone(),
            twin: pick.source == Source::Twin,
            twinned: false,
        };
        self.hold(lease, swapped);
    }

    /// Takes in a lease that is out since before this queue was built.
    pub fn stands(&mut self, lease: Leased) {
        self.hold(lease, false);
    }

    /// Counts and charges a lease.
    fn hold(&mut self, lease: Leased, swapped: bool) {
        let Some(entry) = self.jobs.get_mut(&lease.job) else { return };
        let swap_ms = if swapped { self.loads.get(entry.load).swap_ms() } else { 0.0 };
        let known = entry.speeds.on(lease.device).or_else(|| self.fleet.speed(lease.device, entry.load));
        let image_ms = known.or(entry.speeds.mean()).unwrap_or_else(|| self.loads.get(entry.load).image_ms());
        let charged_ms = lease.range.len() as f64 * image_ms + swap_ms;
        let (tenant, scopes) = (entry.tenant, entry.scopes);
        let held = self.holdings.entry(lease.device).or_default();
        let busy = held.busy_until_ms.max(self.now_ms).saturating_add(charged_ms as i64);
        entry.devices += u32::from(!held.has_job(lease.job));
        if !held.has_tenant(tenant) {
            self.tenants.set_devices(tenant, true);
        }
        for scope in scopes.into_iter().flatten().filter(|&scope| !held.has_scope(scope)) {
            self.limits.set_devices(scope, true);
        }
        held.busy_until_ms = busy;
        let (job, lo) = (lease.job, lease.range.lo());
        held.leases.push(HeldLease { job, lo, tenant, scopes, charged_ms, swapped });
        let late_ms = self.now_ms.saturating_add((LATE * (busy - self.now_ms)).max(LATE_MS));
        self.put_out(lease, late_ms);
        self.tenants.charge(tenant, charged_ms, self.fleet.len());
        self.refresh(job);
        self.refresh_followers(job);
    }

    fn put_out(&mut self, lease: Leased, late_ms: i64) {
        let Some(entry) = self.jobs.get_mut(&lease.job) else { return };
        let lo = lease.range.lo();
        match entry.out.get_mut(&lo) {
            Some(out) => {
                if let Some(late) = out.late_ms.take() {
                    self.closing.remove(&(late, lease.job, lo));
                }
                if lease.twin {
                    out.twin = Some(lease.device);
                } else {
                    out.twin = Some(std::mem::replace(&mut out.device, lease.device));
                }
            }
            None => {
                let late_ms = (!lease.twin && !lease.twinned).then_some(late_ms);
                self.closing.extend(late_ms.filter(|_| entry.closing).map(|late| (late, lease.job, lo)));
                let Leased { range, attempt, avoid, device, .. } = lease;
                entry.out.insert(lo, Outstanding { range, attempt, avoid, device, twin: None, late_ms });
            }
        }
    }

    /// Puts back what was taken and could not be leased after all. Of several picks of one job the last
    /// goes back first, before anything else is taken from it.
    pub fn put_back(&mut self, pick: &Pick) {
        if let Some(entry) = self.jobs.get_mut(&pick.job) {
            let row = match pick.source {
                Source::Retry { row, .. } => row,
                Source::Fresh | Source::Twin => 0,
            };
            let (range, avoid) = (pick.range, pick.avoid.clone());
            let retry = Retry { row, range, spent: pick.attempt.0 - 1, not_before_ms: i64::MIN, avoid };
            entry.work.untake(range, pick.source, retry);
        }
        self.end(&Ended { job: pick.job, range: pick.range, device: pick.device, timing: None });
    }

    /// A lease is over; what is left of it comes back by [`Self::give_back`].
    pub fn end(&mut self, ended: &Ended) {
        let lo = ended.range.lo();
        let Some(held) = self.holdings.get_mut(&ended.device) else { return };
        let Some(lease) = held.remove(ended.job, lo) else { return };
        held.busy_until_ms = held.busy_until_ms.saturating_sub(lease.charged_ms as i64);
        let took_ms = ended.timing.map_or(0.0, |timing| timing.total_ms as f64);
        self.tenants.correct(lease.tenant, took_ms - lease.charged_ms);
        self.free(ended.device, &lease);
        self.take_in(ended);
        if let Some(timing) = ended.timing {
            self.learn(ended, &lease, timing);
        }
        self.refresh(ended.job);
        self.refresh_followers(ended.job);
    }

    /// A device renders no more for what it has no lease of.
    fn free(&mut self, device: DeviceId, lease: &HeldLease) {
        let Some(held) = self.holdings.get(&device) else { return };
        if !held.has_job(lease.job) {
            self.jobs.entry(lease.job).and_modify(|entry| entry.devices -= 1);
        }
        if !held.has_tenant(lease.tenant) {
            self.stirred_all |= self.tenants.is_full(lease.tenant);
            self.tenants.set_devices(lease.tenant, false);
        }
        let scopes = lease.scopes.into_iter().flatten();
        let freed: Vec<_> = scopes.filter(|&scope| !held.has_scope(scope)).collect();
        if !freed.is_empty() {
            self.stirred_all |= self.limits.reached(lease.scopes).is_some();
        }
        freed.into_iter().for_each(|scope| self.limits.set_devices(scope, false));
        if held.leases.is_empty() {
            self.holdings.remove(&device);
        }
    }

    /// What was out is not out any more, unless another device renders it as well.
    fn take_in(&mut self, ended: &Ended) {
        let lo = ended.range.lo();
        let Some(entry) = self.jobs.get_mut(&ended.job) else { return };
        let Some(out) = entry.out.get_mut(&lo) else { return };
        match out.twin {
            Some(twin) if out.device == ended.device => (out.device, out.twin) = (twin, None),
            Some(_) => out.twin = None,
            None => {
                if let Some(late) = out.late_ms {
                    self.closing.remove(&(late, ended.job, lo));
                }
                entry.out.remove(&lo);
            }
        }
    }

    /// Learns speeds. Where something had to be loaded, the first image tells what that took.
    fn learn(&mut self, ended: &Ended, lease: &HeldLease, timing: Timing) {
        let Some(entry) = self.jobs.get_mut(&ended.job) else { return };
        let load = entry.load;
        let (images, total) = (timing.images as f64, timing.total_ms as f64);
        let rest = (timing.images > 1).then(|| (total - timing.first_ms as f64) / (images - 1.0));
        let image_ms = if lease.swapped {
            let known = rest.or_else(|| entry.speeds.on(ended.device));
            if let Some(known) = known {
                self.loads.swapped(load, (timing.first_ms as f64 - known).max(0.0));
            }
            known.unwrap_or(total / images)
        } else {
            total / images
        };
        entry.speeds.measured(ended.device, image_ms);
        self.loads.measured(load, image_ms);
        self.fleet.measured(ended.device, load, image_ms);
    }

    /// Notes that a device loads something. Answers whether it had something else.
    fn load_on(&mut self, device: DeviceId, load: LoadId) -> bool {
        if self
            .fleet
            .device(device)
            .and_then(|device| device.loaded)
            .is_some_and(|loaded| loaded.load == load)
        {
            return false;
        }
        let Some(before) = self.fleet.load(device, Loaded { load, since_ms: self.now_ms }) else {
            return false;
        };
        if let Some(before) = before {
            self.loads.get_mut(before.load).devices -= 1;
        }
        self.loads.get_mut(load).devices += 1;
        true
    }
}
