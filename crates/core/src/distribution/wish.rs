//! What the farm wants its workers to fetch.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::{AdapterDigest, ModelDigest, PackageDigest};
use crate::id::WorkerId;
use crate::recipe::Numerics;

/// One worker is wanted for every so many waiting images: a download must be worth its while.
pub const IMAGES_A_WORKER: u64 = 32;

/// Images that wait for the same model, adapters and arithmetic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The model.
    pub model: ModelDigest,
    /// The adapters.
    pub adapters: Vec<AdapterDigest>,
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// How many wait.
    pub images: u64,
    /// Workers that would not take them, whatever they had.
    pub unfit: BTreeSet<WorkerId>,
}

/// A connected worker that takes work, and what it has to render with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// Which.
    pub worker: WorkerId,
    /// Classes of arithmetic that a device of it offers.
    pub numerics: BTreeSet<Numerics>,
    /// Bytes that it lets fetched models take; 0 where it fetches none.
    pub room_bytes: u64,
    /// Models and adapters that it has.
    pub stock: BTreeSet<PackageDigest>,
    /// What it was told to fetch and has not.
    pub fetching: BTreeSet<PackageDigest>,
    /// What it could not fetch a moment ago.
    pub declined: BTreeSet<PackageDigest>,
}

/// What one worker should fetch: all that it lacks for a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which worker.
    pub worker: WorkerId,
    /// The packages, the smallest first.
    pub packages: Vec<PackageDigest>,
}

/// Who should fetch what, the largest demand first. `packages` are those that the farm can hand out, with
/// their sizes.
///
/// A worker that is fetching gets no second wish, and one that has all it needs none at all.
pub fn wishes(
    demands: &[Demand],
    workers: &[Provision],
    packages: &BTreeMap<PackageDigest, u64>,
) -> Vec<Wish> {
    let mut workers: Vec<Provision> = workers.to_vec();
    workers.sort_by_key(|worker| worker.worker);
    let mut demands: Vec<&Demand> = demands.iter().filter(|demand| demand.images > 0).collect();
    demands.sort_by_key(|demand| (std::cmp::Reverse(demand.images), demand.model));
    let mut wishes = Vec::new();
    for demand in demands {
        let needs = demand.needs();
        let able: Vec<&mut Provision> =
            workers.iter_mut().filter(|worker| demand.may_go_to(worker)).collect();
        let served = able.iter().filter(|worker| worker.will_have(&needs)).count();
        let wanted = usize::try_from(demand.images.div_ceil(IMAGES_A_WORKER)).unwrap_or(usize::MAX);
        let free = able.into_iter().filter(|worker| worker.can_fetch(&needs, packages));
        for worker in free.take(wanted.saturating_sub(served)) {
            let mut lacking: Vec<PackageDigest> = worker.lacks(&needs).collect();
            lacking.sort_by_key(|package| (packages.get(package), *package));
            worker.fetching.extend(&lacking);
            wishes.push(Wish { worker: worker.worker, packages: lacking });
        }
    }
    wishes
}

impl Demand {
    fn may_go_to(&self, worker: &Provision) -> bool {
        worker.numerics.contains(&self.numerics) && !self.unfit.contains(&worker.worker)
    }

    fn needs(&self) -> BTreeSet<PackageDigest> {
        let adapters = self.adapters.iter().map(|&adapter| adapter.into());
        adapters.chain([self.model.into()]).collect()
    }
}

impl Provision {
    fn lacks<'a>(&'a self, needs: &'a BTreeSet<PackageDigest>) -> impl Iterator<Item = PackageDigest> + 'a {
        needs.difference(&self.stock).copied()
    }

    fn will_have(&self, needs: &BTreeSet<PackageDigest>) -> bool {
        self.lacks(needs).all(|package| self.fetching.contains(&package))
    }

    /// Whether it is free to fetch all that it lacks of `needs`, and has the room for all of them together.
    fn can_fetch(&self, needs: &BTreeSet<PackageDigest>, packages: &BTreeMap<PackageDigest, u64>) -> bool {
        let takes = |sum: u64, package| sum.saturating_add(packages.get(package).copied().unwrap_or(0));
        self.fetching.is_empty()
            && self.lacks(needs).next().is_some()
            && self.lacks(needs).all(|need| packages.contains_key(&need) && !self.declined.contains(&need))
            && needs.iter().fold(0, takes) <= self.room_bytes
    }
}
