//! A coordinator's process: it waits for the lock, reigns, and asks the store for every change before it
//! tells anybody.

use std::collections::{BTreeMap, VecDeque};

use seedfarm_core::completion::{Fence, Reception};
use seedfarm_core::placement::{Pick, Retry};
use seedfarm_core::{Epoch, ImageRange, JobId, LeaseId};

use super::adapter::Placement;
use super::message::{Answer, Asked, Completion, Grant, Request, StoredJob, StoredLease, Told};
use super::store::{Guards, worker_id};

/// A lease's term in milliseconds.
pub const TTL_MS: u64 = 2000;
/// Most claims of one transaction.
const BATCH: usize = 8;

/// What a process sends.
#[derive(Debug)]
pub enum Sent {
    ToWorker(usize, Told),
    ToStore(Request),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Coordinator {
    guards: Guards,
    reign: Option<Reign>,
    /// A request for the lock is on its way.
    asking: bool,
}

#[derive(Debug)]
struct Out {
    fence: Fence,
    worker: usize,
    /// What was taken of the queue for it; absent for a lease of an earlier reign.
    taken: Option<(JobId, ImageRange)>,
    renewed_ms: u64,
}

#[derive(Debug)]
struct Reign {
    guards: Guards,
    epoch: Epoch,
    placement: Placement,
    leases: BTreeMap<LeaseId, Out>,
    credits: BTreeMap<usize, u32>,
    claiming: bool,
    /// Completions and releases that wait, the first of which is being stored.
    endings: VecDeque<Request>,
}

impl Coordinator {
    pub const fn new(guards: Guards) -> Self {
        Self { guards, reign: None, asking: false }
    }

    pub const fn guards(&self) -> Guards {
        self.guards
    }

    /// Looks for the lock, or for leases whose time is over.
    pub fn tick(&mut self, now_ms: u64, sent: &mut Vec<Sent>) {
        match &mut self.reign {
            Some(reign) => reign.tick(now_ms, sent),
            None if !self.asking => {
                self.asking = true;
                sent.push(Sent::ToStore(Request::TakeOver));
            }
            None => {}
        }
    }

    /// A worker says something; only who reigns listens.
    pub fn hear(&mut self, worker: usize, asked: Asked, now_ms: u64, sent: &mut Vec<Sent>) {
        if let Some(reign) = &mut self.reign {
            reign.hear(worker, asked, now_ms, sent);
        }
    }

    /// The store answers; false if the process ends, because it is deposed or what it knows is wrong.
    pub fn answered(&mut self, answer: Answer, now_ms: u64, sent: &mut Vec<Sent>) -> bool {
        match answer {
            Answer::Reign { epoch, jobs, leases } => {
                self.asking = false;
                self.reign = Some(Reign::new(self.guards, epoch, jobs, leases, now_ms));
            }
            Answer::Held | Answer::Failed(Request::TakeOver) => self.asking = false,
            Answer::Deposed => return false,
            answer => return self.reign.as_mut().is_none_or(|reign| reign.answered(answer, now_ms, sent)),
        }
        true
    }
}

impl Reign {
    fn new(
        guards: Guards,
        epoch: Epoch,
        jobs: Vec<StoredJob>,
        leases: Vec<StoredLease>,
        now_ms: u64,
    ) -> Self {
        let mut placement = Placement::default();
        for StoredJob { id, number, fresh, retries } in jobs {
            placement.add(id, number, fresh, retries);
        }
        let out = |StoredLease { fence, worker }: StoredLease| {
            (fence.lease, Out { fence, worker, taken: None, renewed_ms: now_ms })
        };
        Self {
            guards,
            epoch,
            placement,
            leases: leases.into_iter().map(out).collect(),
            credits: BTreeMap::new(),
            claiming: false,
            endings: VecDeque::new(),
        }
    }

    fn tick(&mut self, now_ms: u64, sent: &mut Vec<Sent>) {
        let late: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, out)| out.renewed_ms + TTL_MS < now_ms)
            .map(|(&lease, _)| lease)
            .collect();
        late.into_iter().for_each(|lease| self.release(lease, sent));
        self.place(now_ms, sent);
    }

    fn hear(&mut self, worker: usize, asked: Asked, now_ms: u64, sent: &mut Vec<Sent>) {
        match asked {
            Asked::Hello { held } => {
                self.placement.join(worker_id(worker));
                self.credits.insert(worker, 0);
                sent.push(Sent::ToWorker(worker, Told::Welcome));
                self.renew(worker, &held, now_ms, sent);
                let own =
                    self.leases.iter().filter(|(_, out)| out.worker == worker && !held.contains(&out.fence));
                let gone: Vec<LeaseId> = own.map(|(&lease, _)| lease).collect();
                gone.into_iter().for_each(|lease| self.release(lease, sent));
            }
            Asked::Credit => {
                if let Some(credits) = self.credits.get_mut(&worker) {
                    *credits += 1;
                }
                self.place(now_ms, sent);
            }
            Asked::Heartbeat { held } => self.renew(worker, &held, now_ms, sent),
            Asked::Complete(completion) => self.complete(completion, sent),
        }
    }

    fn renew(&mut self, worker: usize, held: &[Fence], now_ms: u64, sent: &mut Vec<Sent>) {
        for fence in held {
            match self.leases.get_mut(&fence.lease).filter(|out| out.fence == *fence && out.worker == worker)
            {
                Some(out) => out.renewed_ms = now_ms,
                None => sent.push(Sent::ToWorker(worker, Told::Revoke(*fence))),
            }
        }
    }

    fn complete(&mut self, completion: Completion, sent: &mut Vec<Sent>) {
        if self.guards == Guards::EarlyAnswer {
            let receptions = vec![Reception::Accepted; completion.images.len()];
            let settled = Told::Settled { completion: completion.clone(), receptions };
            sent.push(Sent::ToWorker(completion.worker, settled));
        }
        self.end(Request::Complete { epoch: self.epoch, completion }, sent);
    }

    fn release(&mut self, lease: LeaseId, sent: &mut Vec<Sent>) {
        if let Some(out) = self.leases.remove(&lease) {
            self.free(&out, 0);
            sent.push(Sent::ToWorker(out.worker, Told::Revoke(out.fence)));
            self.end(Request::Release { epoch: self.epoch, lease }, sent);
        }
    }

    /// A lease does not count any more.
    fn free(&mut self, out: &Out, images: u64) {
        if let Some((job, range)) = out.taken {
            self.placement.ended(worker_id(out.worker), job, range, images);
        }
    }

    /// One completion or release is stored at a time.
    fn end(&mut self, request: Request, sent: &mut Vec<Sent>) {
        self.endings.push_back(request);
        if self.endings.len() == 1 {
            self.store_ending(sent);
        }
    }

    fn store_ending(&self, sent: &mut Vec<Sent>) {
        sent.extend(self.endings.front().cloned().map(Sent::ToStore));
    }

    fn place(&mut self, now_ms: u64, sent: &mut Vec<Sent>) {
        if self.claiming {
            return;
        }
        let mut claims = Vec::new();
        for (&worker, credits) in &mut self.credits {
            while *credits > 0 && claims.len() < BATCH {
                let Some(pick) = self.placement.take(worker_id(worker), now_ms) else { break };
                *credits -= 1;
                claims.push((worker, pick));
            }
        }
        if !claims.is_empty() {
            self.claiming = true;
            sent.push(Sent::ToStore(Request::Claim { epoch: self.epoch, claims }));
        }
    }

    /// Follows the store; false if what is in memory turns out to be wrong.
    fn answered(&mut self, answer: Answer, now_ms: u64, sent: &mut Vec<Sent>) -> bool {
        match answer {
            Answer::Claimed { claims, leases } => {
                self.claiming = false;
                if leases.iter().any(Option::is_none) {
                    return false;
                }
                let granted = claims.into_iter().zip(leases.into_iter().flatten());
                granted.for_each(|((worker, pick), lease)| self.grant(worker, &pick, lease, now_ms, sent));
            }
            Answer::Failed(Request::Claim { claims, .. }) => {
                self.claiming = false;
                for (worker, pick) in claims.into_iter().rev() {
                    self.placement.put_back(&pick);
                    *self.credits.entry(worker).or_default() += 1;
                }
            }
            Answer::Failed(_) => self.store_ending(sent),
            Answer::Completed { completion, outcome } => {
                self.ended(sent);
                if let Some(out) = self.leases.remove(&completion.fence.lease) {
                    self.free(&out, completion.images.len() as u64);
                }
                self.give_back(completion.job, outcome.retry, outcome.finished);
                if self.guards != Guards::EarlyAnswer {
                    let worker = completion.worker;
                    let settled = Told::Settled { completion, receptions: outcome.receptions };
                    sent.push(Sent::ToWorker(worker, settled));
                }
            }
            Answer::Released { job, retry } => {
                self.ended(sent);
                if let Some(job) = job {
                    self.give_back(job, retry, false);
                }
            }
            Answer::Held | Answer::Reign { .. } | Answer::Deposed => {}
        }
        self.place(now_ms, sent);
        true
    }

    fn ended(&mut self, sent: &mut Vec<Sent>) {
        self.endings.pop_front();
        self.store_ending(sent);
    }

    fn give_back(&mut self, job: JobId, retry: Vec<Retry>, finished: bool) {
        retry.into_iter().for_each(|retry| self.placement.give_back(job, retry));
        if finished {
            self.placement.remove(job);
        }
    }

    fn grant(&mut self, worker: usize, pick: &Pick, lease: LeaseId, now_ms: u64, sent: &mut Vec<Sent>) {
        let fence = Fence { lease, attempt: pick.attempt, epoch: self.epoch };
        self.leases
            .insert(lease, Out { fence, worker, taken: Some((pick.job, pick.range)), renewed_ms: now_ms });
        sent.push(Sent::ToWorker(worker, Told::Grant(Grant { fence, job: pick.job, range: pick.range })));
    }
}
