//! The index of jobs that wait: who is in it, and how it follows what happens to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bits::Bits;
use super::class::{Class, Offer};
use super::fleet::{ClassId, DeviceId, Fleet};
use super::job::{Entry, QueuedJob, Speeds, Standing, Wait};
use super::limits::{Holdings, Limits, Scopes};
use super::rank::{Rank, latest_start, next_look, rank};
use super::tenants::{TenantId, Tenants};
use super::warmth::{LoadId, Loaded, Loads};
use super::work::{Retry, Work};
use crate::id::{JobId, WorkerId};
use crate::range::ImageRange;
use crate::terms::{Hold, JobTerms, LimitKey, TenantName, TenantPolicy};

/// The ready jobs of one class.
#[derive(Debug)]
pub(super) struct ReadyClass {
    pub(super) ready: BTreeMap<TenantId, BTreeSet<Rank>>,
    /// The tenants of `ready`.
    pub(super) tenants: Bits,
    pub(super) load: LoadId,
    pub(super) scopes: Scopes,
}

/// What a job is looked at for when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A deferred range comes due.
    Deferred,
    /// Its deadline may be at risk.
    Deadline,
}

/// The devices that might find work where they found none before.
#[derive(Debug, Default)]
pub struct Stirred {
    /// Whatever they are.
    pub all: bool,
    /// These.
    pub devices: BTreeSet<DeviceId>,
}

/// The unfinished jobs with what they still have to give, and the devices that may have it.
#[derive(Debug, Default)]
pub struct Queue {
    pub(super) fleet: Fleet,
    pub(super) jobs: HashMap<JobId, Entry>,
    pub(super) classes: Vec<Option<ReadyClass>>,
    pub(super) tenants: Tenants,
    pub(super) limits: Limits,
    pub(super) loads: Loads,
    pub(super) holdings: Holdings,
    pub(super) timers: BTreeSet<(i64, JobId, Timer)>,
    /// Leases of jobs that have nothing left to lease, by when they count as late.
    pub(super) closing: BTreeSet<(i64, JobId, u64)>,
    /// Jobs that wait for a job.
    pub(super) followers: HashMap<JobId, Vec<JobId>>,
    /// Jobs that stand in `classes`, and those at their own limit.
    pub(super) ready: usize,
    /// Jobs that became ready since the time was told last.
    pub(super) unstamped: Vec<JobId>,
    pub(super) stirred: BTreeSet<ClassId>,
    pub(super) stirred_all: bool,
    /// The latest time that was told, in milliseconds since 1970-01-01 UTC.
    pub(super) now_ms: i64,
}

impl Queue {
    /// Adds a job; one that is there already stays as it is.
    pub fn insert(&mut self, job: QueuedJob) {
        if self.jobs.contains_key(&job.id) {
            return;
        }
        let id = job.id;
        let class = self.enter(&job.class, job.weights_bytes);
        let (load, scopes) =
            self.class(class).map_or((LoadId(0), [None; 2]), |class| (class.load, class.scopes));
        let mut entry = Entry {
            class,
            load,
            scopes,
            tenant: self.tenants.of(&job.terms.tenant),
            created_at_ms: job.created_at_ms,
            at_risk: false,
            rank: rank(id, job.created_at_ms, &job.terms, false),
            active: job.active,
            hold: job.hold,
            waits: Vec::new(),
            work: Work::new(job.fresh, job.fresh_avoid),
            out: BTreeMap::new(),
            devices: 0,
            speeds: Speeds::default(),
            waiting_since_ms: self.now_ms,
            standing: Standing::Out,
            counted: 0,
            closing: false,
            timers: [None; 2],
            terms: job.terms,
        };
        job.retries.into_iter().for_each(|retry| entry.work.give_back(retry));
        self.jobs.insert(id, entry);
        self.follow(id, &job.cancelled);
        self.set_timer(id, Timer::Deadline, self.jobs[&id].terms.deadline_ms.map(|_| self.now_ms));
        self.refresh(id);
    }

    /// Takes a job out that is finished: those that wait for it go on.
    pub fn finish(&mut self, job: JobId) {
        self.take_out(job, |waits, job| waits.retain(|wait| wait.job != job));
    }

    /// Takes a job out that was cancelled: those that wait for it wait for ever, and say so.
    pub fn cancel(&mut self, job: JobId) {
        self.take_out(job, |waits, job| {
            waits.iter_mut().filter(|wait| wait.job == job).for_each(|wait| wait.cancelled = true);
        });
    }

    fn take_out(&mut self, job: JobId, tell: impl Fn(&mut Vec<Wait>, JobId)) {
        if !self.jobs.contains_key(&job) {
            return;
        }
        self.unlist(job);
        self.set_timer(job, Timer::Deferred, None);
        self.set_timer(job, Timer::Deadline, None);
        self.unfollow(job);
        if let Some(entry) = self.jobs.remove(&job) {
            self.exit(entry.class);
        }
        for follower in self.followers.remove(&job).unwrap_or_default() {
            if let Some(entry) = self.jobs.get_mut(&follower) {
                tell(&mut entry.waits, job);
                self.refresh(follower);
            }
        }
    }

    /// Pauses a job or lets it go on; `hold` says why it is paused.
    pub fn set_active(&mut self, job: JobId, active: bool, hold: Option<Hold>) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.active = active;
            entry.hold = hold;
            self.refresh(job);
        }
    }

    /// Changes what a job asks of the farm. `cancelled` are those of the jobs it waits for that were.
    pub fn set_terms(&mut self, job: JobId, terms: JobTerms, cancelled: &[JobId]) {
        let Some(entry) = self.jobs.get(&job) else { return };
        let (before, competing) = (entry.class, entry.tenant);
        let class = self.fleet.class(before).clone().under(&terms);
        // Its tenant competes all the while.
        self.tenants.set_ready(competing, true);
        self.unlist(job);
        self.unfollow(job);
        let class = self.enter(&class, 0);
        self.exit(before);
        let tenant = self.tenants.of(&terms.tenant);
        if let Some(entry) = self.jobs.get_mut(&job) {
            (entry.class, entry.tenant) = (class, tenant);
            (entry.terms, entry.at_risk) = (terms, false);
            entry.set_rank(job);
        }
        self.follow(job, cancelled);
        self.set_timer(job, Timer::Deadline, self.jobs[&job].terms.deadline_ms.map(|_| self.now_ms));
        self.refresh(job);
        self.tenants.set_ready(competing, false);
    }

    /// Sets a tenant's share and its limit.
    pub fn set_tenant(&mut self, name: &TenantName, policy: TenantPolicy) {
        let id = self.tenants.of(name);
        self.tenants.set_policy(id, policy);
        self.stirred_all = true;
    }

    /// Sets how many devices at most render for a model or under a licence.
    pub fn set_limit(&mut self, key: LimitKey, most: Option<u32>) {
        self.limits.set(key, most);
        self.stirred_all = true;
    }

    /// Puts a range back, to be leased again. Unknown jobs and known rows change nothing.
    pub fn give_back(&mut self, job: JobId, retry: Retry) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.work.give_back(retry);
            entry.work.ripen(self.now_ms);
            self.refresh(job);
        }
    }

    /// Takes images out that are settled without being leased: stored ranges that hold any of them go
    /// whole, and of fresh images those at the front.
    pub fn skip(&mut self, job: JobId, images: ImageRange) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.work.skip(images);
            self.refresh(job);
        }
    }

    /// A worker is there, with what each of its devices offers. What was known of it before is replaced, but
    /// for speeds and what is loaded on devices that stay.
    pub fn join(&mut self, worker: WorkerId, offers: impl IntoIterator<Item = (u32, Offer)>) {
        let cold = self.fleet.join(worker, offers);
        self.cool(cold);
        self.stirred_all = true;
    }

    /// A worker is gone.
    pub fn leave(&mut self, worker: WorkerId) {
        let cold = self.fleet.leave(worker);
        self.cool(cold);
        self.stirred_all = true;
    }

    /// Devices are gone that had something loaded.
    fn cool(&mut self, gone: Vec<Loaded>) {
        gone.into_iter().for_each(|loaded| self.loads.get_mut(loaded.load).devices -= 1);
    }

    /// A worker takes no more work.
    pub fn stop(&mut self, worker: WorkerId) {
        self.fleet.stop(worker);
        self.stirred_all = true;
    }

    /// Who is there.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Images of a job that are not leased; 0 for an unknown job.
    pub fn waiting(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |entry| entry.work.waiting())
    }

    /// Images that are not leased, of jobs that are active and wait for no other, by class.
    pub fn waiting_by_class(&self) -> impl Iterator<Item = (&Class, u64)> {
        let mut images = BTreeMap::<ClassId, u64>::new();
        for entry in self.jobs.values().filter(|entry| entry.is_free()) {
            *images.entry(entry.class).or_default() += entry.work.waiting();
        }
        images.into_iter().map(|(class, images)| (self.fleet.class(class), images))
    }

    /// Whether nothing may be leased now, to whatever device. Holds after [`Self::wake`].
    pub fn is_idle(&self) -> bool {
        self.ready == 0 && self.closing.first().is_none_or(|&(late, ..)| late > self.now_ms)
    }

    /// When there may be something to lease that there is not now, in milliseconds since 1970-01-01 UTC.
    pub fn due_ms(&self) -> Option<i64> {
        let timer = self.timers.first().map(|&(due, ..)| due);
        let late = self.closing.first().map(|&(late, ..)| late).filter(|&late| late > self.now_ms);
        [timer, late].into_iter().flatten().min()
    }

    /// The devices that might find work now where they found none before, since this was asked last.
    pub fn take_stirred(&mut self) -> Stirred {
        let classes = std::mem::take(&mut self.stirred);
        if std::mem::take(&mut self.stirred_all) {
            return Stirred { all: true, devices: BTreeSet::new() };
        }
        Stirred {
            all: false,
            devices: classes.into_iter().flat_map(|class| self.fleet.eligible_ids(class)).collect(),
        }
    }

    /// Tells the time: deferred ranges come due, and deadlines are looked at.
    pub fn wake(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some(&(due, job, timer)) = self.timers.first().filter(|&&(due, ..)| due <= now_ms) {
            self.timers.remove(&(due, job, timer));
            match timer {
                Timer::Deferred => self.ripen(job),
                Timer::Deadline => self.look_at_deadline(job),
            }
        }
        for job in std::mem::take(&mut self.unstamped) {
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.waiting_since_ms = self.now_ms;
            }
        }
    }

    fn ripen(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.timers[Timer::Deferred as usize] = None;
            entry.work.ripen(self.now_ms);
            self.refresh(job);
        }
    }

    /// Lets a job go first whose deadline would be missed otherwise.
    fn look_at_deadline(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        entry.timers[Timer::Deadline as usize] = None;
        let Some(deadline) = entry.terms.deadline_ms.filter(|_| !entry.at_risk) else { return };
        let image_ms = entry.speeds.mean().unwrap_or_else(|| self.loads.get(entry.load).image_ms());
        let remaining = entry.unsettled() as f64 * image_ms;
        let latest = latest_start(deadline, remaining, self.fleet.eligible(entry.class));
        if self.now_ms < latest {
            let look = next_look(latest, self.now_ms);
            return self.set_timer(job, Timer::Deadline, Some(look));
        }
        entry.at_risk = true;
        self.rerank(job);
    }

    pub(super) fn set_timer(&mut self, job: JobId, timer: Timer, due: Option<i64>) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let slot = &mut entry.timers[timer as usize];
        if *slot == due {
            return;
        }
        if let Some(before) = std::mem::replace(slot, due) {
            self.timers.remove(&(before, job, timer));
        }
        self.timers.extend(due.map(|due| (due, job, timer)));
    }

    /// Registers the jobs that a job waits for and that are not finished.
    fn follow(&mut self, job: JobId, cancelled: &[JobId]) {
        let Some(entry) = self.jobs.get(&job) else { return };
        let whole = entry.terms.after.iter().map(|&other| (other, false));
        let all = whole.chain(entry.terms.after_images.iter().map(|&other| (other, true)));
        let waits = all.map(|(job, by_image)| Wait { job, by_image, cancelled: cancelled.contains(&job) });
        let open = |wait: &Wait| wait.job != job && (wait.cancelled || self.jobs.contains_key(&wait.job));
        let waits: Vec<Wait> = waits.filter(open).collect();
        for wait in waits.iter().filter(|wait| !wait.cancelled) {
            self.followers.entry(wait.job).or_default().push(job);
        }
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.waits = waits;
        }
    }

    fn unfollow(&mut self, job: JobId) {
        let waits = self.jobs.get_mut(&job).map(|entry| std::mem::take(&mut entry.waits)).unwrap_or_default();
        for wait in waits {
            if let Some(followers) = self.followers.get_mut(&wait.job) {
                followers.retain(|&follower| follower != job);
                if followers.is_empty() {
                    self.followers.remove(&wait.job);
                }
            }
        }
    }

    /// The index from which on a job's images wait for those of other jobs.
    pub(super) fn cap_of(&self, entry: &Entry) -> u64 {
        let by_image = entry.waits.iter().filter(|wait| wait.by_image);
        let low = |wait: &Wait| {
            let other = self.jobs.get(&wait.job)?;
            other.low_water()
        };
        by_image
            .map(|wait| if wait.cancelled { 0 } else { low(wait).unwrap_or(u64::MAX) })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Those that wait for images of a job may go on, or not.
    pub(super) fn refresh_followers(&mut self, job: JobId) {
        for follower in self.followers.get(&job).cloned().unwrap_or_default() {
            self.refresh(follower);
        }
    }

    fn enter(&mut self, class: &Class, weights_bytes: u64) -> ClassId {
        let id = self.fleet.enter(class);
        if self.classes.len() <= id.index() {
            self.classes.resize_with(id.index() + 1, || None);
        }
        let load = self.loads.of(class, weights_bytes);
        if self.classes[id.index()].is_none() {
            let scopes = self.limits.of(class);
            let tenants = Bits::default();
            self.classes[id.index()] = Some(ReadyClass { ready: BTreeMap::new(), tenants, load, scopes });
        }
        id
    }

    fn exit(&mut self, class: ClassId) {
        if self.fleet.exit(class) {
            self.classes[class.index()] = None;
        }
    }

    pub(super) fn class(&self, id: ClassId) -> Option<&ReadyClass> {
        self.classes.get(id.index())?.as_ref()
    }
}
