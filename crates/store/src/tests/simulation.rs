//! Random farms: two lanes at once, workers that fail in every way, and the invariants at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::placement::Source;
use seedfarm_core::{Attempt, ImageRange, JobId, JobState, PixelDigest};
use tokio::sync::mpsc;

use super::{Farm, Planned, again, failure, fresh, worker};
use crate::{Claim, Completion, RangeRow};

/// SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the coordinator would have in memory.
#[derive(Default)]
struct Board {
    fresh: BTreeMap<JobId, ImageRange>,
    waiting: Vec<RangeRow>,
    unfinished: usize,
    /// Per job: accepted images and dead ones, as the store told.
    told: BTreeMap<JobId, (u64, u64)>,
}

impl Board {
    /// Takes up to `most` claims at random.
    fn claims(&mut self, random: &mut Random, most: u64) -> Vec<Claim> {
        let mut claims = Vec::new();
        for _ in 0..most {
            let worker = worker(1 + u128::from(random.below(2)));
            let claim = if !self.waiting.is_empty() && random.one_in(2) {
                self.claim_again(random)
            } else {
                self.claim_fresh(random)
            };
            claims.extend(claim.map(|claim| Claim { worker, ..claim }));
        }
        claims
    }

    fn claim_fresh(&mut self, random: &mut Random) -> Option<Claim> {
        let at = random.below(self.fresh.len().max(1) as u64) as usize;
        let (&job, &range) = self.fresh.iter().nth(at)?;
        let (taken, rest) = range.take(1 + random.below(7));
        match rest {
            Some(rest) => self.fresh.insert(job, rest),
            None => self.fresh.remove(&job),
        };
        Some(fresh(job, taken.lo(), taken.hi()))
    }

    fn claim_again(&mut self, random: &mut Random) -> Option<Claim> {
        let at = random.below(self.waiting.len() as u64) as usize;
        let row = &mut self.waiting[at];
        let mut claim = again(row);
        let (taken, rest) = row.retry.range.take(1 + random.below(5));
        claim.range = taken;
        claim.source = Source::Retry { row: row.retry.row, rest };
        match rest {
            Some(rest) => row.retry.range = rest,
            None => drop(self.waiting.swap_remove(at)),
        }
        Some(claim)
    }
}

/// Grants leases until the farm has nothing left to do.
async fn claims_lane(
    farm: Arc<Farm>,
    board: Arc<Mutex<Board>>,
    seed: u64,
    leased: mpsc::UnboundedSender<(Claim, Fence)>,
) {
    let mut random = Random(seed);
    loop {
        let claims = {
            let mut board = board.lock().unwrap();
            if board.unfinished == 0 {
                return;
            }
            let most = 1 + random.below(12);
            board.claims(&mut random, most)
        };
        let leases = farm.store.claim(farm.epoch(), &claims).await.unwrap();
        for (claim, lease) in claims.into_iter().zip(leases) {
            let lease = lease.expect("the board and the database agree");
            let fence = Fence { lease, attempt: claim.attempt, epoch: farm.epoch() };
            leased.send((claim, fence)).unwrap();
        }
        tokio::task::yield_now().await;
    }
}

/// What became of one lease.
enum Fate {
    Completed(Completion),
    Vanished(Fence),
}

fn render(farm: &Farm, job: &Planned, (claim, fence): (Claim, Fence), random: &mut Random) -> Fate {
    if random.one_in(12) {
        return Fate::Vanished(fence);
    }
    // Images whose index is 13 modulo 17 cannot be rendered.
    let poison = claim.range.indices().find(|index| index % 17 == 13);
    let cut =
        if random.one_in(5) { claim.range.lo() + random.below(claim.range.len()) } else { claim.range.hi() };
    let made = poison.unwrap_or(cut).min(cut);
    let mut completion = farm.completion(job, fence, claim.range.lo()..made);
    completion.worker = claim.worker;
    completion.failure = match poison {
        Some(poison) if poison <= cut => failure(FailureClass::Task),
        _ if made == claim.range.hi() => None,
        _ => failure(FailureClass::ALL[1 + random.below(3) as usize]),
    };
    Fate::Completed(completion)
}

/// Completes, repeats, forges and releases until every job is finished.
async fn completions_lane(
    farm: Arc<Farm>,
    jobs: Arc<BTreeMap<JobId, Planned>>,
    board: Arc<Mutex<Board>>,
    seed: u64,
    mut leased: mpsc::UnboundedReceiver<(Claim, Fence)>,
) {
    let mut random = Random(seed ^ 0x5eed);
    let mut sent: Vec<Completion> = Vec::new();
    let mut grants = Vec::new();
    while leased.recv_many(&mut grants, 9).await > 0 {
        let (mut batch, mut gone) = (Vec::new(), Vec::new());
        for grant in grants.drain(..) {
            match render(&farm, &jobs[&grant.0.job], grant, &mut random) {
                Fate::Completed(completion) => batch.push(completion),
                Fate::Vanished(fence) => gone.push(fence.lease),
            }
        }
        let honest = batch.len();
        if !sent.is_empty() {
            let mut repeat = sent[random.below(sent.len() as u64) as usize].clone();
            if random.one_in(3) {
                repeat.images.iter_mut().for_each(|image| image.pixels = PixelDigest::of_bytes(b"forged"));
            }
            batch.push(repeat);
        }
        let settled = farm.store.complete(farm.epoch(), &batch).await.unwrap();
        let released = farm.store.release(farm.epoch(), &gone, FailureClass::Worker).await.unwrap();
        assert_eq!(released.len(), gone.len());
        let mut board = board.lock().unwrap();
        for (at, (completion, outcome)) in batch.iter().zip(&settled.outcomes).enumerate() {
            assert_eq!(outcome.lease_held, at < honest, "only a first completion holds its lease");
            let accepted = outcome.receptions.iter().filter(|&&r| r == Reception::Accepted).count() as u64;
            let told = board.told.entry(completion.job).or_default();
            told.0 += accepted;
            told.1 += outcome.dead.iter().map(|range| range.len()).sum::<u64>();
            board.waiting.extend(outcome.retry.iter().cloned());
        }
        board.waiting.extend(released.into_iter().flat_map(|released| released.retry));
        board.unfinished -= settled.progress.iter().filter(|progress| progress.finished).count();
        sent.extend(batch.drain(..honest));
    }
}

async fn simulate(seed: u64) {
    let farm = Arc::new(Farm::new().await);
    let mut random = Random(seed);
    let mut jobs = BTreeMap::new();
    for number in 0..4 {
        let job = farm.job(number, 20 + random.below(120) as u32).await;
        jobs.insert(job.row.id, job);
    }
    let jobs = Arc::new(jobs);
    let fresh = jobs.values().map(|job| (job.row.id, job.row.fresh().unwrap())).collect();
    let board = Arc::new(Mutex::new(Board { fresh, unfinished: jobs.len(), ..Board::default() }));
    let (leased, granted) = mpsc::unbounded_channel();
    let claims = tokio::spawn(claims_lane(farm.clone(), board.clone(), seed, leased));
    let completions =
        tokio::spawn(completions_lane(farm.clone(), jobs.clone(), board.clone(), seed, granted));
    let watching = async {
        while !claims.is_finished() {
            farm.assert_sound().await;
        }
        claims.await.unwrap();
    };
    let ((), completed) = tokio::join!(watching, completions);
    completed.unwrap();

    farm.assert_sound().await;
    for job in jobs.values() {
        let row = farm.row(job.row.id).await;
        let poison = (0..row.total).filter(|index| index % 17 == 13).count() as u64;
        assert_eq!(row.state, JobState::Finished);
        assert_eq!((row.done, row.failed), (row.total - poison, poison), "seed {seed}");
        assert_eq!(board.lock().unwrap().told[&row.id], (row.done, row.failed), "seed {seed}");
        for image in farm.store.images(row.id, 0, 10_000).await.unwrap() {
            let made = super::image(&job.plan, image.id.index);
            assert_eq!((image.seed, image.pixels), (made.seed, made.pixels), "the honest image stays");
            assert!(image.attempt >= Attempt(1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn counters_equal_sums_whatever_the_interleaving() {
    for seed in 1..=6 {
        simulate(seed).await;
    }
}
