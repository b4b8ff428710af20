//! The index of jobs that wait, and the choice among them.

use std::cmp::Reverse;
use std::collections::btree_set::Iter;
use std::collections::{BTreeSet, HashMap};
use std::iter::Peekable;

use super::work::{Offer, Work};
use super::{DeviceId, Fleet, Group, Retry, Source, chunk};
use crate::digest::AdapterDigest;
use crate::id::{Attempt, JobId, WorkerId};
use crate::range::ImageRange;

/// A job as it enters the queue.
#[derive(Debug, Clone)]
pub struct QueuedJob {
    /// The job.
    pub id: JobId,
    /// What a device must offer.
    pub group: Group,
    /// Adapters that a worker must have, too.
    pub needs: Vec<AdapterDigest>,
    /// Higher goes first.
    pub priority: i32,
    /// When it was submitted, in milliseconds since 1970-01-01 UTC: older goes first.
    pub created_at_ms: i64,
    /// Whether its images may be leased; a paused job only keeps its place.
    pub active: bool,
    /// Images that were never leased.
    pub fresh: Option<ImageRange>,
    /// Workers that fresh images pass over.
    pub fresh_avoid: Vec<WorkerId>,
    /// Ranges to be leased again.
    pub retries: Vec<Retry>,
}

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

/// Why a device gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoWork {
    /// Groups that the device offers.
    pub groups: usize,
    /// Jobs with unleased images whose model it offers.
    pub jobs: usize,
    /// Those of them that need adapters which its worker lacks.
    pub lacking: usize,
    /// Ranges that avoid its worker while others are there.
    pub avoided: usize,
    /// Ranges whose time has not come.
    pub deferred: usize,
    /// When the first of those comes due, in milliseconds since 1970-01-01 UTC.
    pub due_ms: Option<i64>,
}

/// Priority, then age; the id tells jobs of one millisecond apart.
type Rank = (Reverse<i32>, i64, JobId);

#[derive(Debug)]
struct Entry {
    group: Group,
    needs: Vec<AdapterDigest>,
    rank: Rank,
    active: bool,
    work: Work,
}

/// The unfinished jobs with what they still have to give.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: HashMap<JobId, Entry>,
    /// Active jobs with unleased images.
    ready: HashMap<Group, BTreeSet<Rank>>,
}

impl Queue {
    /// Adds a job; one that is there already stays as it is.
    pub fn insert(&mut self, job: QueuedJob) {
        if self.jobs.contains_key(&job.id) {
            return;
        }
        let rank = (Reverse(job.priority), job.created_at_ms, job.id);
        let work = Work::new(job.fresh, job.fresh_avoid, job.retries);
        let entry = Entry { group: job.group, needs: job.needs, rank, active: job.active, work };
        self.jobs.insert(job.id, entry);
        self.index(job.id);
    }

    /// Takes a job out with all it had to give.
    pub fn remove(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.remove(&job) {
            self.unready(entry.group, entry.rank);
        }
    }

    /// Pauses a job or lets it go on.
    pub fn set_active(&mut self, job: JobId, active: bool) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.active = active;
            self.index(job);
        }
    }

    /// Puts a range back, to be leased again. Unknown jobs and known rows change nothing.
    pub fn give_back(&mut self, job: JobId, retry: Retry) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.work.give_back(retry);
            self.index(job);
        }
    }

    /// Whether no active job has an unleased image.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Images of a job that are not leased; 0 for an unknown job.
    pub fn waiting(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |entry| entry.work.waiting())
    }

    /// The group of a job.
    pub fn group_of(&self, job: JobId) -> Option<Group> {
        self.jobs.get(&job).map(|entry| entry.group)
    }

    /// Chooses what `device` renders next, for about `target_ms`, or says why there is nothing.
    pub fn choose(
        &self,
        device: DeviceId,
        fleet: &Fleet,
        now_ms: i64,
        target_ms: u64,
    ) -> Result<Pick, NoWork> {
        let groups: Vec<Group> = fleet.groups_of(device).collect();
        let mut why = NoWork { groups: groups.len(), ..NoWork::default() };
        for (_, _, job) in self.in_order(&groups) {
            let entry = &self.jobs[&job];
            why.jobs += 1;
            if !fleet.has(device.worker, &entry.needs) {
                why.lacking += 1;
                continue;
            }
            let open = |offer: &Offer<'_>| why.admits(offer, device, entry, fleet, now_ms);
            if let Some(offer) = entry.work.offers().find(open) {
                let speed = fleet.speed(device, job, entry.group);
                let devices = fleet.devices_for(entry.group, &entry.needs);
                let most = chunk::size(target_ms, speed, entry.work.waiting(), devices);
                return Ok(pick(job, device, &offer, most));
            }
        }
        Err(why)
    }

    /// Takes what was chosen out of the queue.
    pub fn take(&mut self, pick: &Pick) {
        if let Some(entry) = self.jobs.get_mut(&pick.job) {
            entry.work.take(pick.range, pick.source);
            self.index(pick.job);
        }
    }

    /// Puts back what was taken and could not be leased after all. Of several picks of one job the last
    /// goes back first, before anything else is taken from it.
    pub fn put_back(&mut self, pick: &Pick) {
        if let Some(entry) = self.jobs.get_mut(&pick.job) {
            let row = match pick.source {
                Source::Fresh => 0,
                Source::Retry { row, .. } => row,
            };
            let (range, avoid) = (pick.range, pick.avoid.clone());
            let retry = Retry { row, range, spent: pick.attempt.0 - 1, not_before_ms: i64::MIN, avoid };
            entry.work.untake(range, pick.source, retry);
            self.index(pick.job);
        }
    }

    /// The ready jobs of several groups, best rank first.
    fn in_order<'a>(&'a self, groups: &[Group]) -> impl Iterator<Item = Rank> + use<'a> {
        let mut heads: Vec<Peekable<Iter<'a, Rank>>> = groups
            .iter()
            .filter_map(|group| self.ready.get(group))
            .map(|ranks| ranks.iter().peekable())
            .collect();
        std::iter::from_fn(move || {
            let first = |head: &'_ mut Peekable<Iter<'a, Rank>>| head.peek().map(|rank| **rank);
            let best = heads.iter_mut().filter_map(|head| Some((first(head)?, head)));
            best.min_by_key(|(rank, _)| *rank).and_then(|(_, head)| head.next().copied())
        })
    }

    /// Keeps `ready` in step with one job.
    fn index(&mut self, job: JobId) {
        let entry = &self.jobs[&job];
        let (group, rank) = (entry.group, entry.rank);
        if entry.active && entry.work.waiting() > 0 {
            self.ready.entry(group).or_default().insert(rank);
        } else {
            self.unready(group, rank);
        }
    }

    fn unready(&mut self, group: Group, rank: Rank) {
        if let Some(ranks) = self.ready.get_mut(&group) {
            ranks.remove(&rank);
            if ranks.is_empty() {
                self.ready.remove(&group);
            }
        }
    }
}

impl NoWork {
    /// Whether a device may have what is offered; if not, notes why.
    fn admits(&mut self, offer: &Offer<'_>, id: DeviceId, entry: &Entry, fleet: &Fleet, now_ms: i64) -> bool {
        if offer.not_before_ms > now_ms {
            self.deferred += 1;
            let due = self.due_ms.unwrap_or(i64::MAX).min(offer.not_before_ms);
            self.due_ms = Some(due);
            return false;
        }
        let open = fleet.may_take(id.worker, entry.group, &entry.needs, offer.avoid);
        self.avoided += usize::from(!open);
        open
    }
}

fn pick(job: JobId, device: DeviceId, offer: &Offer<'_>, most: u64) -> Pick {
    let (range, rest) = offer.range.take(most);
    let source = offer.row.map_or(Source::Fresh, |row| Source::Retry { row, rest });
    Pick { job, device, range, attempt: offer.attempt, avoid: offer.avoid.to_vec(), source }
}
