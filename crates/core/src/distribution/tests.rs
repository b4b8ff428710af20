//! Wishes and room, by example and by property.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::digest::{AdapterDigest, FileDigest, ModelDigest, PackageDigest};
use crate::id::WorkerId;
use crate::recipe::Numerics;

fn model(n: u8) -> ModelDigest {
    ModelDigest::of_bytes(&[n])
}

fn worker(n: u128) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(n))
}

fn empty(n: u128) -> Provision {
    Provision {
        worker: worker(n),
        numerics: BTreeSet::from([Numerics::Strict]),
        room_bytes: 100,
        stock: BTreeSet::new(),
        fetching: BTreeSet::new(),
        declined: BTreeSet::new(),
    }
}

fn demand(n: u8, images: u64) -> Demand {
    let (adapters, unfit) = (Vec::new(), BTreeSet::new());
    Demand { model: model(n), adapters, numerics: Numerics::Strict, images, unfit }
}

fn packages(sizes: &[(u8, u64)]) -> BTreeMap<PackageDigest, u64> {
    sizes.iter().map(|&(n, bytes)| (model(n).into(), bytes)).collect()
}

#[test]
fn a_few_images_are_worth_one_download_and_many_are_worth_more() {
    let workers: Vec<Provision> = (1..=4).map(empty).collect();
    let asked = |images| wishes(&[demand(1, images)], &workers, &packages(&[(1, 10)]));
    assert_eq!(asked(0), Vec::new());
    assert_eq!(asked(1), [Wish { worker: worker(1), packages: vec![model(1).into()] }]);
    assert_eq!(asked(IMAGES_A_WORKER + 1).len(), 2);
    assert_eq!(asked(u64::MAX).len(), 4);
}

#[test]
fn nobody_is_asked_while_enough_workers_have_the_model_or_are_fetching_it() {
    let (mut has, mut fetches) = (empty(1), empty(2));
    has.stock.insert(model(1).into());
    fetches.fetching.insert(model(1).into());
    let workers = [has, fetches, empty(3)];
    let asked = |images| wishes(&[demand(1, images)], &workers, &packages(&[(1, 10)]));
    assert_eq!(asked(2 * IMAGES_A_WORKER), Vec::new());
    assert_eq!(asked(2 * IMAGES_A_WORKER + 1).len(), 1);
}

#[test]
fn who_cannot_use_hold_or_get_a_model_is_not_asked() {
    let needs = [demand(1, 1)];
    let one = |worker: Provision| wishes(&needs, &[worker], &packages(&[(1, 101)]));
    assert_eq!(one(empty(1)), Vec::new(), "it has no room");
    assert_eq!(one(Provision { room_bytes: 101, ..empty(1) }).len(), 1);
    let declined = BTreeSet::from([model(1).into()]);
    assert_eq!(one(Provision { room_bytes: 101, declined, ..empty(1) }), Vec::new());
    let numerics = BTreeSet::from([Numerics::Fast]);
    assert_eq!(one(Provision { room_bytes: 101, numerics, ..empty(1) }), Vec::new());
    let busy = BTreeSet::from([model(2).into()]);
    assert_eq!(one(Provision { room_bytes: 101, fetching: busy, ..empty(1) }), Vec::new());
    assert_eq!(wishes(&needs, &[empty(1)], &BTreeMap::new()), Vec::new(), "the farm does not have it");
}

#[test]
fn a_worker_that_would_not_take_the_images_is_not_asked_and_does_not_count_as_serving_them() {
    let mut has = empty(1);
    has.stock.insert(model(1).into());
    let demand = Demand { unfit: BTreeSet::from([worker(1), worker(2)]), ..demand(1, 1) };
    let asked = wishes(&[demand], &[has, empty(2), empty(3)], &packages(&[(1, 10)]));
    assert_eq!(asked, [Wish { worker: worker(3), packages: vec![model(1).into()] }]);
}

#[test]
fn a_worker_is_asked_for_all_that_it_lacks_or_for_nothing() {
    let lora = AdapterDigest::of_bytes(b"felt");
    let demand = Demand { adapters: vec![lora], ..demand(1, 1) };
    let mut farm = packages(&[(1, 90)]);
    let mut has_model = empty(1);
    has_model.stock.insert(model(1).into());
    assert_eq!(wishes(std::slice::from_ref(&demand), &[has_model.clone()], &farm), Vec::new());
    farm.insert(lora.into(), 10);
    assert_eq!(wishes(std::slice::from_ref(&demand), &[has_model], &farm)[0].packages, [lora.into()]);
    assert_eq!(
        wishes(std::slice::from_ref(&demand), &[empty(2)], &farm)[0].packages,
        [lora.into(), model(1).into()]
    );
    farm.insert(lora.into(), 11);
    assert_eq!(wishes(&[demand], &[empty(2)], &farm), Vec::new(), "the two do not fit together");
}

#[test]
fn what_was_not_used_for_longest_leaves_and_what_is_in_use_stays() {
    let file = |n: u8| (FileDigest::of_bytes(&[n]), 10);
    let on_shelf = |n: u8, in_use| Shelved {
        package: model(n).into(),
        files: BTreeMap::from([file(n)]),
        used_at_ms: u64::from(n),
        in_use,
    };
    let shelf = [on_shelf(3, false), on_shelf(1, true), on_shelf(2, false)];
    let wanted = BTreeMap::from([file(9)]);
    assert_eq!(make_room(&shelf, &wanted, 40), Ok(Vec::new()));
    assert_eq!(make_room(&shelf, &wanted, 30), Ok(vec![model(2).into()]));
    assert_eq!(make_room(&shelf, &wanted, 20), Ok(vec![model(2).into(), model(3).into()]));
    assert_eq!(make_room(&shelf, &wanted, 19), Err(NoRoom { needed: 20, in_use: 10, limit: 19 }));
}

fn shelves() -> impl Strategy<Value = Vec<Shelved>> {
    let files = prop::collection::btree_set(0_u8..12, 1..5);
    let package = (files, 0_u64..50, any::<bool>());
    prop::collection::vec(package, 0..8).prop_map(|packages| {
        let shelved = |(n, (files, used_at_ms, in_use)): (usize, (BTreeSet<u8>, u64, bool))| Shelved {
            package: PackageDigest::of_bytes(&n.to_le_bytes()),
            files: sized(files),
            used_at_ms,
            in_use,
        };
        packages.into_iter().enumerate().map(shelved).collect()
    })
}

fn sized(files: BTreeSet<u8>) -> BTreeMap<FileDigest, u64> {
    files.into_iter().map(|n| (FileDigest::of_bytes(&[n]), u64::from(n) + 1)).collect()
}

fn total<'a>(kept: impl Iterator<Item = &'a Shelved>, wanted: &BTreeMap<FileDigest, u64>) -> u64 {
    let mut all = wanted.clone();
    kept.for_each(|package| all.extend(package.files.clone()));
    all.values().sum()
}

proptest! {
    #[test]
    fn after_room_was_made_all_fits_and_nothing_in_use_is_gone(
        shelf in shelves(), wanted in prop::collection::btree_set(0_u8..12, 0..4), limit in 0_u64..80,
    ) {
        let wanted = sized(wanted);
        match make_room(&shelf, &wanted, limit) {
            Ok(leaving) => {
                let kept = |package: &&Shelved| !leaving.contains(&package.package);
                prop_assert!(total(shelf.iter().filter(kept), &wanted) <= limit);
                prop_assert!(shelf.iter().filter(|package| !kept(package)).all(|package| !package.in_use));
                for one in &leaving {
                    let kept = |package: &&Shelved| *one == package.package || !leaving.contains(&package.package);
                    prop_assert!(total(shelf.iter().filter(kept), &wanted) > limit, "{one} need not leave");
                }
            }
            Err(NoRoom { .. }) => {
                let used = shelf.iter().filter(|package| package.in_use);
                prop_assert!(total(used, &wanted) > limit, "it fits beside what is in use");
            }
        }
    }

    #[test]
    fn nobody_is_asked_twice_or_for_what_it_has_and_no_demand_gets_more_than_it_is_worth(
        images in prop::collection::vec(0_u64..200, 1..4),
        stocks in prop::collection::vec(prop::collection::btree_set(0_u8..4, 0..3), 0..6),
    ) {
        let demands: Vec<Demand> = (0..).zip(&images).map(|(n, &images)| demand(n, images)).collect();
        let provision = |(n, stock): (u128, &BTreeSet<u8>)| Provision {
            stock: stock.iter().map(|&n| model(n).into()).collect(),
            ..empty(n)
        };
        let workers: Vec<Provision> = (1..).zip(&stocks).map(provision).collect();
        let wishes = wishes(&demands, &workers, &packages(&[(0, 1), (1, 2), (2, 3)]));
        let asked: BTreeSet<WorkerId> = wishes.iter().map(|wish| wish.worker).collect();
        prop_assert_eq!(asked.len(), wishes.len());
        for wish in &wishes {
            let worker = workers.iter().find(|worker| worker.worker == wish.worker).unwrap();
            prop_assert!(wish.packages.iter().all(|package| !worker.stock.contains(package)));
        }
        for demand in &demands {
            let package = PackageDigest::from(demand.model);
            let having = workers.iter().filter(|worker| worker.stock.contains(&package)).count();
            let coming = wishes.iter().filter(|wish| wish.packages.contains(&package)).count();
            let worth = usize::try_from(demand.images.div_ceil(IMAGES_A_WORKER)).unwrap();
            prop_assert!(coming == 0 || having + coming <= worth);
        }
    }
}
