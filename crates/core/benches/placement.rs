//! What a placement decision costs, and what a long queue holds in memory.
//!
//! `cargo bench -p seedfarm-core --bench placement`. A decision is choose, take and the end of the lease that the
//! device held before, on a farm in its daily work: every device is busy, 300 tenants compete, models are
//! as popular as Zipf says, each device has 20 of them. The mean is processor time; percentiles are by the clock on
//! the wall, and so tell of whatever else the machine does, too.

mod random;

use std::time::Instant;

use random::{Random, Zipf};
use seedfarm_core::placement::{
    Class, Demand, DeviceId, Ended, Group, Offer, Pick, Queue, QueuedJob, Timing,
};
use seedfarm_core::terms::{JobTerms, Requirements, TenantName, Urgency};
use seedfarm_core::{ImageRange, JobId, ModelDigest, Numerics, WorkerId};
use uuid::Uuid;

const WORKERS: u64 = 10_000;
const MODELS: usize = 2_000;
const MODELS_A_DEVICE: usize = 20;
const TENANTS: u64 = 300;
const DECISIONS: usize = 200_000;
const TARGET_MS: u64 = 20_000;
/// What a decision may cost, in microseconds.
const BOUND_US: f64 = 50.0;
/// What the queue of a hundred million images may hold, in bytes.
const BOUND_BYTES: u64 = 500_000_000;

fn main() {
    println!("{WORKERS} workers, {MODELS} models, {TENANTS} tenants, {DECISIONS} decisions each");
    println!("{:>9} {:>8} {:>8} {:>8} {:>10}", "jobs", "mean us", "p50 us", "p99 us", "memory MB");
    let figures: Vec<Figures> = [10_000, 100_000, 1_000_000].into_iter().map(measure).collect();
    let fast = figures.iter().all(|figures| figures.mean_us < BOUND_US && figures.p50_us < BOUND_US);
    verdict(fast, &format!("a decision takes less than {BOUND_US} us, whatever the length"));
    let growth = figures[2].mean_us / figures[1].mean_us;
    verdict(growth < 2.0, &format!("ten times the jobs cost {growth:.2} times as much a decision"));
    let bytes = hundred_million();
    verdict(
        bytes < BOUND_BYTES,
        &format!("a hundred million images in 1,000 jobs hold {:.1} MB", bytes as f64 / 1e6),
    );
}

fn verdict(holds: bool, what: &str) {
    println!("{} {what}", if holds { "ok  " } else { "MISS" });
}

struct Figures {
    /// Processor time.
    mean_us: f64,
    /// By the clock on the wall, as the percentiles are.
    p50_us: f64,
}

fn measure(jobs: u64) -> Figures {
    let before = resident();
    let mut farm = Farm::new(jobs);
    let begin: f64 = (0..WORKERS).map(|worker| farm.turn(worker)).sum();
    let begun_ns = cpu_ns();
    let mut took: Vec<f64> = (0..DECISIONS).map(|_| farm.any_turn()).collect();
    assert!(begin > 0.0, "every device has asked once before anything is measured");
    let mean_us = (cpu_ns() - begun_ns) as f64 / 1000.0 / DECISIONS as f64;
    let memory = resident().saturating_sub(before);
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let (p50_us, p99) = (at(0.5), at(0.99));
    println!("{jobs:>9} {mean_us:>8.2} {p50_us:>8.2} {p99:>8.2} {:>10.1}", memory as f64 / 1e6);
    Figures { mean_us, p50_us }
}

/// A queue, its devices and what they hold.
struct Farm {
    queue: Queue,
    random: Random,
    held: Vec<Option<Pick>>,
    now_ms: i64,
}

impl Farm {
    fn new(jobs: u64) -> Self {
        let mut random = Random(1);
        let (zipf, mut queue) = (Zipf::new(MODELS), Queue::default());
        for worker in 0..WORKERS {
            let models = (0..MODELS_A_DEVICE).map(|_| model(zipf.draw(&mut random))).collect();
            let offer = Offer { models, numerics: [Numerics::Strict].into(), ..Offer::default() };
            queue.join(device(worker).worker, [(0, offer)]);
        }
        (0..jobs).for_each(|id| {
            queue.insert(job(id, 100 + random.below(100_000), zipf.draw(&mut random), &mut random))
        });
        Self { queue, random, held: (0..WORKERS).map(|_| None).collect(), now_ms: 0 }
    }

    /// A device anywhere is through with what it holds and gets something else; microseconds.
    fn any_turn(&mut self) -> f64 {
        let worker = self.random.below(WORKERS);
        self.turn(worker)
    }

    fn turn(&mut self, worker: u64) -> f64 {
        self.now_ms += (TARGET_MS / WORKERS) as i64;
        let ms = 500 + self.random.below(2_000);
        let begun = Instant::now();
        if let Some(pick) = self.held[worker as usize].take() {
            let images = pick.range.len();
            let timing = Some(Timing { images, total_ms: images * ms, first_ms: ms });
            self.queue.end(&Ended { job: pick.job, range: pick.range, device: pick.device, timing });
        }
        if let Ok(pick) = self.queue.choose(device(worker), self.now_ms, TARGET_MS) {
            self.queue.take(&pick);
            self.held[worker as usize] = Some(pick);
        }
        begun.elapsed().as_secs_f64() * 1e6
    }
}

fn device(worker: u64) -> DeviceId {
    DeviceId { worker: WorkerId::from_uuid(Uuid::from_u128(u128::from(worker) + 1)), device: 0 }
}

fn model(number: usize) -> ModelDigest {
    ModelDigest::of_bytes(&number.to_le_bytes())
}

fn job(id: u64, images: u64, number: usize, random: &mut Random) -> QueuedJob {
    let tenant: TenantName = format!("tenant-{}", random.below(TENANTS)).parse().expect("a plain name");
    let urgency = if random.below(10) == 0 { Urgency::Interactive } else { Urgency::Bulk };
    QueuedJob {
        id: JobId::from_uuid(Uuid::from_u128(u128::from(id) + 1)),
        class: Class {
            group: Group { model: model(number), numerics: Numerics::Strict },
            model_name: format!("model-{number}"),
            licence: None,
            adapters: Vec::new(),
            requirements: Requirements::default(),
            demand: Demand::default(),
        },
        weights_bytes: 4_000_000_000,
        terms: JobTerms { urgency, priority: random.below(5) as i32, ..JobTerms::of(tenant) },
        cancelled: Vec::new(),
        created_at_ms: -(random.below(86_400_000) as i64),
        active: true,
        hold: None,
        fresh: ImageRange::new(0, images),
        fresh_avoid: Vec::new(),
        retries: Vec::new(),
    }
}

/// What a queue of 1,000 jobs of 100,000 images holds, in bytes.
fn hundred_million() -> u64 {
    let (before, mut random) = (resident(), Random(2));
    let mut queue = Queue::default();
    (0..1_000).for_each(|id| queue.insert(job(id, 100_000, id as usize % 20, &mut random)));
    let images: u64 = (0..1_000).map(|id| queue.waiting(JobId::from_uuid(Uuid::from_u128(id + 1)))).sum();
    assert_eq!(images, 100_000_000);
    resident().saturating_sub(before)
}

/// Processor time of this process, in nanoseconds; 0 where the system does not tell.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Memory of this process, in bytes; 0 where the system does not tell.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
