//! Random farms: whatever happens, no image is granted twice or forgotten, and no limit is exceeded.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::terms::{LimitKey, TenantPolicy};

/// One thing that happens to the farm.
#[derive(Debug, Clone)]
enum Step {
    /// A device asks for work.
    Ask(u128),
    /// The nth lease is completed.
    Complete(usize),
    /// The nth lease expires: its range comes back, unless another renders it, and avoids its worker.
    Expire(usize),
    /// A device asks for work, and the lease cannot be stored.
    Refuse(u128),
    Pause(u128, bool),
    Stop(u128),
    Join(u128),
    /// Time passes.
    Pass(i64),
    Move(u128, u8),
    LimitModel(Option<u32>),
    LimitTenant(u8, Option<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u128..=4).prop_map(Step::Ask),
        4 => any::<usize>().prop_map(Step::Complete),
        2 => any::<usize>().prop_map(Step::Expire),
        1 => (1u128..=4).prop_map(Step::Refuse),
        1 => (0u128..4, any::<bool>()).prop_map(|(job, active)| Step::Pause(job, active)),
        1 => (1u128..=4).prop_map(Step::Stop),
        1 => (1u128..=4).prop_map(Step::Join),
        2 => (0i64..100_000).prop_map(Step::Pass),
        1 => (0u128..4, 0u8..2).prop_map(|(job, tenant)| Step::Move(job, tenant)),
        1 => proptest::option::of(0u32..3).prop_map(Step::LimitModel),
        1 => (0u8..2, proptest::option::of(1u32..3)).prop_map(|(tenant, most)| Step::LimitTenant(tenant, most)),
    ]
}

/// A small farm that notes who has which image.
struct Farm {
    queue: Queue,
    now_ms: i64,
    paused: BTreeSet<JobId>,
    /// Leases that are out, and whether each is a second one.
    leases: Vec<Pick>,
    /// Jobs are of two models and two tenants; the fourth waits for the first image by image.
    tenants: BTreeMap<JobId, u8>,
    limits: BTreeMap<u8, u32>,
    model_limit: Option<u32>,
    done: BTreeMap<JobId, BTreeSet<u64>>,
    totals: BTreeMap<JobId, u64>,
    rows: i64,
}

fn model_of(job_: JobId) -> &'static str {
    if job_ == job(1) { "x" } else { "m" }
}

impl Farm {
    fn new(totals: &[(i32, u64)]) -> Self {
        let jobs = totals.iter().zip(0u8..).map(|(&(priority, total), id)| {
            let waits = if id == 3 { vec![job(0)] } else { Vec::new() };
            let plain = queued(u128::from(id), i64::from(id), total);
            let terms =
                JobTerms { priority, after_images: waits, ..JobTerms::of(tenant(&format!("t{}", id % 2))) };
            QueuedJob { terms, ..of_model(model_of(plain.id), plain) }
        });
        let ids = (0u128..).zip(totals);
        Self {
            queue: queue(4, &["m", "x"], jobs),
            now_ms: 0,
            paused: BTreeSet::new(),
            leases: Vec::new(),
            tenants: ids.clone().map(|(id, _)| (job(id), (id % 2) as u8)).collect(),
            limits: BTreeMap::new(),
            model_limit: None,
            done: BTreeMap::new(),
            totals: ids.map(|(id, &(_, total))| (job(id), total)).collect(),
            rows: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Ask(n) => self.ask(n),
            Step::Complete(n) if !self.leases.is_empty() => self.complete(n),
            Step::Expire(n) if !self.leases.is_empty() => self.expire(n),
            Step::Refuse(n) => {
                if let Some(pick) = grant_at(&mut self.queue, n, self.now_ms) {
                    self.queue.put_back(&pick);
                }
            }
            Step::Complete(_) | Step::Expire(_) => {}
            Step::Pause(n, active) => {
                self.queue.set_active(job(n), active, None);
                if active {
                    self.paused.remove(&job(n));
                } else {
                    self.paused.insert(job(n));
                }
            }
            Step::Stop(n) => self.queue.stop(worker(n)),
            Step::Join(n) => self.queue.join(worker(n), [(0, offer(&["m", "x"]))]),
            Step::Pass(ms) => self.now_ms += ms,
            Step::Move(n, to) => self.move_to(n, to),
            Step::LimitModel(most) => {
                self.model_limit = most;
                self.queue.set_limit(LimitKey::Model("x".into()), most);
            }
            Step::LimitTenant(of, most) => {
                self.limits.remove(&of);
                self.limits.extend(most.map(|most| (of, most)));
                let policy = TenantPolicy { max_devices: most, ..TenantPolicy::default() };
                self.queue.set_tenant(&tenant(&format!("t{of}")), policy);
            }
        }
    }

    /// Leases that are out stay their old tenant's.
    fn move_to(&mut self, n: u128, to: u8) {
        let out = self.leases.iter().any(|lease| lease.job == job(n));
        if !out && self.totals[&job(n)] > self.done.get(&job(n)).map_or(0, |done| done.len() as u64) {
            self.tenants.insert(job(n), to);
            let waits = if n == 3 { vec![job(0)] } else { Vec::new() };
            let terms = JobTerms { after_images: waits, ..JobTerms::of(tenant(&format!("t{to}"))) };
            self.queue.set_terms(job(n), terms, &[]);
        }
    }

    fn is_twinned(&self, lease: &Pick) -> bool {
        self.leases.iter().any(|other| other.job == lease.job && other.range == lease.range)
    }

    fn complete(&mut self, n: usize) {
        let lease = self.leases.remove(n % self.leases.len());
        end(&mut self.queue, &lease, 4000);
        let done = self.done.entry(lease.job).or_default();
        done.extend(lease.range.indices());
        if done.len() as u64 == self.totals[&lease.job] {
            self.queue.finish(lease.job);
        }
    }

    fn expire(&mut self, n: usize) {
        let lease = self.leases.remove(n % self.leases.len());
        fail(&mut self.queue, &lease);
        if self.is_twinned(&lease) {
            return;
        }
        let done = self.done.get(&lease.job).cloned().unwrap_or_default();
        for range in lease.range.without(&done) {
            self.rows += 1;
            let avoid = [lease.avoid.clone(), vec![lease.device.worker]].concat();
            let back = Retry { avoid, ..retry(self.rows, range.lo(), range.hi(), Vec::new()) };
            self.queue.give_back(lease.job, back);
        }
    }

    fn ask(&mut self, n: u128) {
        if let Some(pick) = next_at(&mut self.queue, n, self.now_ms) {
            self.check(&pick);
            self.queue.take(&pick);
            self.leases.push(pick);
            self.check_limits();
        }
    }

    fn check(&self, pick: &Pick) {
        assert!(!self.paused.contains(&pick.job), "a paused job was leased");
        if pick.source == Source::Twin {
            let others: Vec<&Pick> = self
                .leases
                .iter()
                .filter(|lease| lease.job == pick.job && lease.range == pick.range)
                .collect();
            assert_eq!(others.len(), 1, "a twin stands beside one lease");
            assert_ne!(others[0].device.worker, pick.device.worker);
            return;
        }
        for index in pick.range.indices() {
            assert!(!self.is_out(pick.job, index), "image {index} was granted twice");
            let first = self.done.get(&job(0)).is_some_and(|done| done.contains(&index));
            let waits = pick.job == job(3) && index < self.totals[&job(0)];
            assert!(!waits || first, "image {index} was not waited for");
        }
    }

    fn is_out(&self, job: JobId, index: u64) -> bool {
        let leased = self.leases.iter().any(|lease| lease.job == job && lease.range.contains(index));
        leased || self.done.get(&job).is_some_and(|done| done.contains(&index))
    }

    /// A grant takes no limit over its number; limits that were lowered below what is out let nobody in.
    fn check_limits(&self) {
        let newest = self.leases.last().unwrap();
        let before = &self.leases[..self.leases.len() - 1];
        let count = |of: &dyn Fn(&Pick) -> bool| {
            let holding = |leases: &[Pick]| -> BTreeSet<DeviceId> {
                leases.iter().filter(|lease| of(lease)).map(|lease| lease.device).collect()
            };
            (holding(before), holding(&self.leases))
        };
        let holds = |(before, after): (BTreeSet<DeviceId>, BTreeSet<DeviceId>), most: u32| {
            assert!(after.len() <= most as usize || after.len() == before.len(), "{after:?} are over {most}");
        };
        let own = self.tenants[&newest.job];
        if let Some(&most) = self.limits.get(&own) {
            holds(count(&|lease| self.tenants[&lease.job] == own), most);
        }
        if let Some(most) = self.model_limit.filter(|_| model_of(newest.job) == "x") {
            holds(count(&|lease| model_of(lease.job) == "x"), most);
        }
    }

    /// Everybody comes back and works until nothing is left.
    fn finish(&mut self) {
        (0..4).for_each(|n| self.apply(Step::Pause(n, true)));
        (1..=4).for_each(|n| self.apply(Step::Join(n)));
        self.apply(Step::LimitModel(None));
        (0..2).for_each(|n| self.apply(Step::LimitTenant(n, None)));
        for _ in 0..10_000 {
            (1..=4).for_each(|n| self.ask(n));
            if self.leases.is_empty() && self.queue.is_idle() {
                return;
            }
            if !self.leases.is_empty() {
                self.complete(0);
            }
            self.now_ms += 100_000;
        }
        panic!("somebody starves");
    }
}

proptest! {
    #[test]
    fn no_image_is_granted_twice_and_none_is_forgotten_and_no_limit_is_exceeded(
        totals in proptest::collection::vec((-2i32..3, 1u64..60), 4),
        steps in proptest::collection::vec(step(), 0..250),
    ) {
        let mut farm = Farm::new(&totals);
        steps.into_iter().for_each(|step| farm.apply(step));
        farm.finish();
        for (id, &(_, total)) in (0u128..).zip(&totals) {
            prop_assert_eq!(farm.done[&job(id)].len() as u64, total);
            prop_assert_eq!(farm.queue.waiting(job(id)), 0);
        }
        prop_assert_eq!(farm.queue.due_ms(), None);
    }
}
