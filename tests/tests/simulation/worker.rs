//! A worker's process: draws what it is granted, sends it until it is answered, and fails in every way.

use std::collections::{BTreeMap, BTreeSet};

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::{JobId, LeaseId};
use seedfarm_tests::Random;

use super::message::{Asked, Completion, Grant, Told};
use super::store::{is_poison, pixels};

/// Leases held at once.
const CREDITS: u64 = 2;
/// Copies of completions that are kept.
const COPIES: usize = 8;
/// A coordinator that says nothing for so long is left for the other, in milliseconds.
const SILENCE_MS: u64 = 1500;

/// See the module's documentation.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    /// The coordinator that it talks to.
    pub coordinator: usize,
    heard_ms: u64,
    /// Grants, and when they are drawn.
    drawing: BTreeMap<LeaseId, (Grant, u64)>,
    /// Sent and not answered yet.
    open: BTreeMap<LeaseId, Completion>,
    lost: BTreeSet<LeaseId>,
    /// Copies of what was answered.
    settled: Vec<Completion>,
    /// Images that a coordinator said are stored, since the world looked last.
    pub acknowledged: Vec<(JobId, u64)>,
}

impl Worker {
    pub fn new(number: usize, coordinator: usize) -> Self {
        Self {
            number,
            coordinator,
            heard_ms: 0,
            drawing: BTreeMap::new(),
            open: BTreeMap::new(),
            lost: BTreeSet::new(),
            settled: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    /// `kill -9`, and a new process: with its outbox, or without.
    pub fn crash(&mut self, keeps_outbox: bool) {
        let (open, settled) = (std::mem::take(&mut self.open), std::mem::take(&mut self.settled));
        *self = Self { settled, ..Self::new(self.number, self.coordinator) };
        if keeps_outbox {
            self.open = open;
        }
    }

    /// Heartbeat, or another coordinator, and what is drawn by now.
    pub fn tick(&mut self, now_ms: u64, random: &mut Random, sent: &mut Vec<Asked>) {
        if now_ms.saturating_sub(self.heard_ms) > SILENCE_MS {
            self.coordinator = 1 - self.coordinator;
            self.heard_ms = now_ms;
            sent.push(Asked::Hello { held: self.held() });
        } else {
            sent.push(Asked::Heartbeat { held: self.held() });
            // What was not answered is sent again at some time.
            if random.one_in(4) {
                sent.extend(self.open.values().cloned().map(Asked::Complete));
            }
        }
        if !self.settled.is_empty() && random.one_in(6) {
            sent.push(Asked::Complete(self.lie(random)));
        }
        let due: Vec<LeaseId> =
            self.drawing.iter().filter(|(_, (_, due))| *due <= now_ms).map(|(&lease, _)| lease).collect();
        for lease in due {
            if let Some((grant, _)) = self.drawing.remove(&lease) {
                self.complete(&grant, random, sent);
            }
        }
    }

    /// An old completion once more, every other time with other pixels.
    fn lie(&self, random: &mut Random) -> Completion {
        let mut old = random.pick(&self.settled).clone();
        let forged = random.below(2);
        old.images.iter_mut().for_each(|(_, pixels)| *pixels ^= forged);
        old
    }

    fn held(&self) -> Vec<Fence> {
        let drawing = self.drawing.values().map(|(grant, _)| grant.fence);
        drawing.chain(self.open.values().map(|completion| completion.fence)).collect()
    }

    fn complete(&mut self, grant: &Grant, random: &mut Random, sent: &mut Vec<Asked>) {
        let is_lost = self.lost.contains(&grant.fence.lease);
        if random.one_in(15) {
            // It is forgotten without a word.
            return;
        }
        let poison = grant.range.indices().find(|&index| is_poison(index));
        let cut = if random.one_in(8) {
            random.between(grant.range.lo(), grant.range.hi())
        } else {
            grant.range.hi()
        };
        let end = poison.unwrap_or(cut).min(cut);
        let images = (grant.range.lo()..end).map(|index| (index, pixels(grant.job, index))).collect();
        let failure = match poison {
            Some(poison) if poison <= cut => Some(FailureClass::Task),
            _ if end == grant.range.hi() => None,
            _ => Some(FailureClass::ALL[1 + random.below(3) as usize]),
        };
        let completion =
            Completion { worker: self.number, fence: grant.fence, job: grant.job, images, failure };
        sent.push(Asked::Complete(completion.clone()));
        if !is_lost {
            self.open.insert(grant.fence.lease, completion);
        }
        sent.push(Asked::Credit);
    }

    /// A coordinator says something.
    pub fn hear(&mut self, from: usize, told: Told, now_ms: u64, random: &mut Random, sent: &mut Vec<Asked>) {
        if from == self.coordinator {
            self.heard_ms = now_ms;
        }
        match told {
            Told::Welcome => {
                sent.extend(self.open.values().cloned().map(Asked::Complete));
                sent.extend((0..CREDITS).map(|_| Asked::Credit));
            }
            Told::Grant(grant) => {
                let lease = grant.fence.lease;
                let known = self.open.contains_key(&lease) || self.lost.contains(&lease);
                if !known {
                    let due = now_ms + random.between(50, 900);
                    self.drawing.entry(lease).or_insert((grant, due));
                }
            }
            Told::Settled { completion, receptions } => {
                self.open.remove(&completion.fence.lease);
                let stored = completion.images.iter().zip(&receptions);
                let stored = stored
                    .filter(|(_, reception)| matches!(reception, Reception::Accepted | Reception::Repeated));
                self.acknowledged.extend(stored.map(|((index, _), _)| (completion.job, *index)));
                if self.settled.len() < COPIES {
                    self.settled.push(completion);
                }
            }
            Told::Revoke(fence) => {
                self.lost.insert(fence.lease);
                self.open.remove(&fence.lease);
            }
        }
    }
}
