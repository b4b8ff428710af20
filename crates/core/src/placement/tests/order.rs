//! Who goes first, and who may have it at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::owner::{Acceptance, Feature};
use crate::terms::TenantPolicy;

fn prior(priority: i32, job: QueuedJob) -> QueuedJob {
    QueuedJob { terms: JobTerms { priority, ..job.terms }, ..job }
}

fn order(queue: &mut Queue) -> Vec<JobId> {
    std::iter::from_fn(|| grant_at(queue, 1, 0)).map(|pick| pick.job).collect()
}

#[test]
fn interactive_goes_before_priority_and_priority_before_age() {
    let jobs = [
        queued(1, 10, 1),
        prior(5, queued(2, 30, 1)),
        prior(5, queued(3, 20, 1)),
        interactive(queued(4, 40, 1)),
    ];
    assert_eq!(order(&mut queue(1, &["m"], jobs)), [job(4), job(3), job(2), job(1)]);
}

#[test]
fn an_old_job_goes_before_a_newer_one_of_any_priority_in_the_end() {
    let much_newer = 3 * 3_600_000;
    let jobs = [prior(-50, queued(1, 0, 1)), prior(100, queued(2, much_newer, 1))];
    assert_eq!(order(&mut queue(1, &["m"], jobs)), [job(1), job(2)]);
    let jobs = [queued(1, 0, 1), interactive(queued(2, 7 * 3_600_000, 1))];
    assert_eq!(order(&mut queue(1, &["m"], jobs)), [job(1), job(2)]);
}

#[test]
fn ranges_to_be_rendered_again_go_before_fresh_ones_of_the_same_job() {
    let mut waiting = queued(1, 0, 10);
    waiting.fresh = Some(range(5, 10));
    waiting.retries = vec![retry(7, 2, 3, Vec::new())];
    let pick = next(&mut queue(1, &["m"], [waiting]), 1).unwrap();
    assert_eq!((pick.range, pick.attempt.0), (range(2, 3), 2));
    assert_eq!(pick.source, Source::Retry { row: 7, rest: None });
}

#[test]
fn a_device_gets_no_job_of_a_model_or_arithmetic_it_does_not_offer() {
    let mut fast = queued(2, 0, 1);
    fast.class.group.numerics = Numerics::Fast;
    let mut queue = queue(1, &["m"], [of_model("other", queued(1, 0, 1)), fast]);
    assert_eq!(next(&mut queue, 1), None);
    queue.join(worker(2), [(0, offer(&["other"]))]);
    assert_eq!(next(&mut queue, 2).unwrap().job, job(1));
}

/// Worker 1 without adapters, worker 2 with `a` and worker 3 with `a` and `b`.
fn join_with_adapters(queue: &mut Queue) {
    for (n, names) in [(1, &[][..]), (2, &["a"][..]), (3, &["a", "b"][..])] {
        let adapters = names.iter().map(|name| adapter(name)).collect();
        queue.join(worker(n), [(0, Offer { adapters, ..offer(&["m"]) })]);
    }
}

fn needing(names: &[&str], job: QueuedJob) -> QueuedJob {
    let adapters = names.iter().map(|name| adapter(name)).collect();
    QueuedJob { class: Class { adapters, ..job.class }, ..job }
}

#[test]
fn a_job_goes_only_to_workers_that_have_every_adapter_it_needs() {
    let mut queue = queue(0, &[], [prior(9, needing(&["a", "b"], queued(1, 0, 1))), queued(2, 0, 1)]);
    join_with_adapters(&mut queue);
    for (n, expected) in [(1, job(2)), (2, job(2)), (3, job(1))] {
        assert_eq!(next(&mut queue, n).map(|pick| pick.job), Some(expected), "worker {n}");
    }
    let class = |names: &[&str]| needing(names, queued(1, 0, 1)).class;
    assert_eq!(queue.fleet().workers_for(&class(&["a"])), 2);
    assert_eq!(queue.fleet().workers_for(&class(&["c"])), 0);
}

#[test]
fn tags_memory_and_an_owners_leave_are_asked_for() {
    let able = Offer {
        memory_bytes: 8 << 30,
        acceptance: Acceptance {
            max_pixels: Some(512 * 512),
            tags: BTreeSet::from(["pool:night".parse().unwrap()]),
            ..Acceptance::default()
        },
        ..offer(&["m"])
    };
    let mut asking = class("m");
    asking.requirements.tags = vec!["pool:night".parse().unwrap()];
    asking.requirements.memory_bytes = 6 << 30;
    asking.demand.pixels = 512 * 512;
    assert_eq!(able.lacks(&asking), None);
    let untagged = Acceptance { tags: BTreeSet::new(), ..able.acceptance.clone() };
    assert!(matches!(Offer { acceptance: untagged, ..able.clone() }.lacks(&asking), Some(Lack::Tags(_))));
    assert_eq!(Offer { memory_bytes: 0, ..able.clone() }.lacks(&asking), Some(Lack::Memory));
    let larger = Class { demand: Demand { pixels: 768 * 768, ..Demand::default() }, ..asking.clone() };
    assert_eq!(able.lacks(&larger), Some(Lack::Pixels));
    let refused = Acceptance { refused: BTreeSet::from([Feature::Bulk]), ..able.acceptance.clone() };
    let refusing = Offer { acceptance: refused, ..able };
    let urgent = JobTerms { urgency: Urgency::Interactive, ..JobTerms::default() };
    let under =
        |terms: &JobTerms| Class { requirements: asking.requirements.clone(), ..class("m").under(terms) };
    assert_eq!(refusing.lacks(&under(&JobTerms::default())), Some(Lack::Refused(Feature::Bulk)));
    assert_eq!(refusing.lacks(&under(&urgent)), None);
}

#[test]
fn an_owners_preferred_tenant_goes_first_on_that_device() {
    let jobs = [of_tenant("a", queued(1, 0, 50)), of_tenant("b", queued(2, 0, 50))];
    let mut queue = queue(2, &["m"], jobs);
    let acceptance = Acceptance { prefer_tenants: vec![tenant("b")], ..Acceptance::default() };
    queue.join(worker(2), [(0, Offer { acceptance, ..offer(&["m"]) })]);
    for _ in 0..5 {
        assert_eq!(grant_at(&mut queue, 2, 0).unwrap().job, job(2));
    }
    queue.cancel(job(2));
    assert_eq!(grant_at(&mut queue, 2, 0).unwrap().job, job(1), "others' work is better than none");
}

#[test]
fn an_avoided_worker_is_passed_over_until_no_other_is_there() {
    let mut waiting = queued(1, 0, 1);
    waiting.fresh = None;
    waiting.retries = vec![retry(1, 0, 1, vec![worker(1)])];
    let mut queue = queue(2, &["m"], [waiting]);
    assert_eq!(next(&mut queue, 1), None);
    assert!(next(&mut queue, 2).is_some());
    queue.stop(worker(2));
    assert!(next(&mut queue, 1).is_some(), "forgiven while the other drains");
    queue.leave(worker(2));
    assert!(next(&mut queue, 1).is_some(), "forgiven when the other is gone");
}

#[test]
fn an_avoided_worker_is_forgiven_when_no_other_has_the_adapters() {
    let mut waiting = needing(&["b"], queued(1, 0, 1));
    waiting.fresh_avoid = vec![worker(3)];
    let mut queue = queue(0, &[], [waiting]);
    join_with_adapters(&mut queue);
    assert!(next(&mut queue, 3).is_some());
}

#[test]
fn a_draining_worker_gets_nothing_and_one_that_joins_again_does() {
    let mut queue = queue(1, &["m"], [queued(1, 0, 5)]);
    queue.stop(worker(1));
    assert_eq!(next(&mut queue, 1), None);
    queue.join(worker(1), [(0, offer(&["m"]))]);
    assert!(next(&mut queue, 1).is_some());
}

#[test]
fn chunks_grow_with_measured_speed_and_shrink_toward_the_end() {
    let mut queue = queue(2, &["m"], [queued(1, 0, 201)]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    assert_eq!(first.range.len(), 1);
    end(&mut queue, &first, 500);
    let mut lengths = Vec::new();
    while let Some(pick) = grant_at(&mut queue, 1, 0) {
        lengths.push(pick.range.len());
    }
    assert_eq!(lengths[0], 40);
    assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
    assert_eq!(lengths.last(), Some(&1));
}

#[test]
fn a_worker_that_joins_again_is_counted_once_and_keeps_its_speed() {
    let mut queue = queue(1, &["m"], [queued(1, 0, 21)]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    end(&mut queue, &first, 1000);
    queue.join(worker(1), [(0, offer(&["m"]))]);
    assert_eq!(next(&mut queue, 1).unwrap().range.len(), 10);
}

#[test]
fn what_could_not_be_leased_goes_back_where_it_was() {
    let mut waiting = queued(1, 0, 100);
    waiting.fresh = Some(range(40, 100));
    waiting.retries = vec![retry(7, 0, 31, vec![worker(9)])];
    let mut queue = queue(1, &["m"], [waiting]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    end(&mut queue, &first, 2000);
    let mut picks = Vec::new();
    while let Some(pick) = next(&mut queue, 1).filter(|pick| pick.range.lo() < 80) {
        queue.take(&pick);
        picks.push(pick);
    }
    assert!(picks.iter().filter(|pick| pick.source == Source::Fresh).count() > 1);
    assert!(picks.iter().filter(|pick| pick.source != Source::Fresh).count() > 1);
    picks.iter().rev().for_each(|pick| queue.put_back(pick));
    assert_eq!(queue.waiting(job(1)), 90);
    for pick in picks {
        assert_eq!(grant_at(&mut queue, 1, 0).as_ref(), Some(&pick));
    }
}

/// Grants `rounds` leases on one device and tells what each tenant had, in milliseconds.
fn serve(queue: &mut Queue, rounds: usize, ms: u64) -> BTreeMap<JobId, u64> {
    let mut had = BTreeMap::new();
    for _ in 0..rounds {
        let pick = grant_at(queue, 1, 0).unwrap();
        end(queue, &pick, ms);
        *had.entry(pick.job).or_default() += pick.range.len() * ms;
    }
    had
}

#[test]
fn a_tenant_that_comes_back_has_saved_nothing_up() {
    let mut queue = queue(1, &["m"], [of_tenant("a", queued(1, 0, 1_000_000))]);
    serve(&mut queue, 200, 1000);
    queue.insert(of_tenant("b", queued(2, 0, 1_000_000)));
    let had = serve(&mut queue, 20, 1000);
    let (a, b) = (had[&job(1)], had[&job(2)]);
    assert!(b <= a + 2 * TARGET_MS, "{a} {b}");
}

#[test]
fn a_tenant_with_ten_thousand_jobs_has_no_more_than_one_with_a_single_job() {
    let many = (10..10_010).map(|id| of_tenant("many", queued(id, 0, 5)));
    let mut queue = queue(1, &["m"], many.chain([of_tenant("one", queued(1, 0, 5_000))]));
    let had = serve(&mut queue, 400, 1000);
    let one = had[&job(1)];
    let all: u64 = had.values().sum();
    assert!(one * 2 + 2 * TARGET_MS >= all && one * 2 <= all + 2 * TARGET_MS, "{one} of {all}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shares_converge_to_weights(weights in proptest::collection::vec(1u32..=20, 2..6), ms in 200u64..4000) {
        let jobs = (0u8..).zip(&weights).map(|(id, _)| {
            of_tenant(&format!("t{id}"), queued(u128::from(id), 0, 10_000_000))
        });
        let mut queue = queue(1, &["m"], jobs);
        for (id, &weight) in weights.iter().enumerate() {
            queue.set_tenant(&tenant(&format!("t{id}")), TenantPolicy { weight, ..TenantPolicy::default() });
        }
        let had = serve(&mut queue, 2000, ms);
        let (all, sum): (u64, u32) = (had.values().sum(), weights.iter().sum());
        for (id, &weight) in (0u128..).zip(&weights) {
            let fair = all as f64 * f64::from(weight) / f64::from(sum);
            let own = had.get(&job(id)).copied().unwrap_or(0) as f64;
            prop_assert!((own - fair).abs() <= 2.0 * TARGET_MS as f64 + 0.01 * all as f64, "{own} for {fair}");
        }
    }

    #[test]
    fn the_job_of_least_rank_is_the_one_that_is_chosen(
        jobs in proptest::collection::vec((-100i32..=100, 0i64..10_000_000, any::<bool>(), any::<bool>()), 1..20)
    ) {
        let all = jobs.iter().zip(0u8..).map(|(&(priority, created, active, urgent), id)| {
            let plain = prior(priority, queued(u128::from(id), created, 5));
            QueuedJob { active, ..if urgent { interactive(plain) } else { plain } }
        });
        let best = all.clone().filter(|job| job.active).min_by_key(|job| {
            let urgent = job.terms.urgency == Urgency::Interactive;
            let earlier = i64::from(job.terms.priority) * 60_000 + if urgent { 6 * 3_600_000 } else { 0 };
            (job.created_at_ms - earlier, job.id)
        });
        let chosen = next(&mut queue(2, &["m"], all), 1).map(|pick| pick.job);
        prop_assert_eq!(chosen, best.map(|job| job.id));
    }
}
