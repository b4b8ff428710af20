//! The devices of a simulated day.

use std::collections::{BTreeSet, HashMap};

use crate::day::{Day, WEIGHTS};
use crate::policy::{Lease, Policy};

/// Between two samples of who has work, in milliseconds.
const SAMPLE_MS: i64 = 60_000;

/// What came of a day.
#[derive(Default)]
pub struct Outcome {
    pub leases: u64,
    pub swaps: u64,
    pub swapping_ms: i64,
    pub busy_ms: i64,
    /// From submission to the start of the first image, in milliseconds.
    pub interactive_waits: Vec<i64>,
    pub bulk_waits: Vec<i64>,
    /// When the last image was done.
    pub end_ms: i64,
    /// Device time while several tenants had work waiting, and what their weights entitled them to, in
    /// milliseconds.
    pub shares: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Free(usize),
    Ask(usize),
    Sample,
}

struct Running<'a, P> {
    day: &'a Day,
    policy: P,
    events: BTreeSet<(i64, Event)>,
    loaded: Vec<Option<usize>>,
    /// What each device renders: the tenant, the time of all images, of the first.
    busy: Vec<Option<(usize, i64, i64)>>,
    /// Images not leased, by job.
    waiting: HashMap<usize, u64>,
    outcome: Outcome,
}

/// Plays a day to the last image.
pub fn run<P: Policy>(day: &Day, policy: P) -> Outcome {
    let mut running = Running {
        day,
        policy,
        events: day.jobs.iter().enumerate().map(|(id, job)| (job.at_ms, Event::Arrive(id))).collect(),
        loaded: vec![None; day.devices.len()],
        busy: vec![None; day.devices.len()],
        waiting: HashMap::new(),
        outcome: Outcome { shares: vec![(0.0, 0.0); WEIGHTS.len()], ..Outcome::default() },
    };
    running.events.insert((SAMPLE_MS, Event::Sample));
    while let Some((now, event)) = running.events.pop_first() {
        running.happen(now, event);
    }
    running.outcome.interactive_waits.sort_unstable();
    running.outcome.bulk_waits.sort_unstable();
    running.outcome
}

impl<P: Policy> Running<'_, P> {
    fn happen(&mut self, now: i64, event: Event) {
        match event {
            Event::Arrive(id) => {
                let job = self.day.jobs[id];
                self.waiting.insert(id, job.images);
                self.policy.arrive(id, job);
                (0..self.busy.len()).for_each(|device| self.ask(device, now));
            }
            Event::Free(device) => {
                if let Some((_, total, first)) = self.busy[device].take() {
                    self.policy.end(device, total, first);
                    self.outcome.end_ms = now;
                }
                self.ask(device, now);
            }
            Event::Ask(device) => self.ask(device, now),
            Event::Sample => self.sample(now),
        }
    }

    fn ask(&mut self, device: usize, now: i64) {
        if self.busy[device].is_some() {
            return;
        }
        match self.policy.next(device, now) {
            Ok(lease) => self.render(device, lease, now),
            Err(Some(due)) => drop(self.events.insert((due.max(now + 1), Event::Ask(device)))),
            Err(None) => {}
        }
    }

    fn render(&mut self, device: usize, lease: Lease, now: i64) {
        let job = self.day.jobs[lease.job];
        let model = &self.day.models[job.model];
        let cold = self.loaded[device].replace(job.model) != Some(job.model);
        let swap = if cold { model.swap_ms() } else { 0 };
        let image = (model.image_ms * self.day.devices[device].factor) as i64;
        let total = swap + image * lease.images as i64;
        self.start(lease, now + swap);
        let outcome = &mut self.outcome;
        outcome.leases += 1;
        outcome.swaps += u64::from(cold);
        outcome.swapping_ms += swap;
        outcome.busy_ms += total;
        self.busy[device] = Some((job.tenant, total, swap + image));
        self.events.insert((now + total, Event::Free(device)));
    }

    /// Counts images as leased; the first of a job ends its waiting. A second lease of late images counts nothing.
    fn start(&mut self, lease: Lease, at: i64) {
        let job = self.day.jobs[lease.job];
        let Some(left) = self.waiting.get_mut(&lease.job) else { return };
        if *left == job.images {
            let waits = if job.interactive {
                &mut self.outcome.interactive_waits
            } else {
                &mut self.outcome.bulk_waits
            };
            waits.push(at - job.at_ms);
        }
        *left = left.saturating_sub(lease.images);
        if *left == 0 {
            self.waiting.remove(&lease.job);
        }
    }

    /// Who has devices, while more than one tenant has work waiting.
    fn sample(&mut self, now: i64) {
        let wanting: BTreeSet<usize> = self.waiting.keys().map(|&id| self.day.jobs[id].tenant).collect();
        if wanting.len() > 1 {
            let had =
                |tenant: usize| self.busy.iter().flatten().filter(|(of, ..)| *of == tenant).count() as f64;
            let all: f64 = wanting.iter().map(|&tenant| had(tenant)).sum();
            let weights: u32 = wanting.iter().map(|&tenant| WEIGHTS[tenant]).sum();
            for &tenant in &wanting {
                let (own, entitled) = (had(tenant), all * f64::from(WEIGHTS[tenant]) / f64::from(weights));
                let share = &mut self.outcome.shares[tenant];
                *share = (share.0 + own * SAMPLE_MS as f64, share.1 + entitled * SAMPLE_MS as f64);
            }
        }
        if !self.events.is_empty() {
            self.events.insert((now + SAMPLE_MS, Event::Sample));
        }
    }
}
