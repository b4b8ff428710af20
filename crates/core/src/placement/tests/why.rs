//! What is told agrees with what is decided.

use proptest::prelude::*;

use super::*;
use crate::terms::{LimitKey, TenantPolicy};

fn job_reasons(queue: &mut Queue, n: u128) -> Vec<JobReason> {
    queue.why_job(job(n), 0).unwrap().reasons
}

#[test]
fn each_thing_that_keeps_a_job_is_told_and_is_gone_when_it_is_removed() {
    let mut waiting = queued(1, 0, 5);
    waiting.class.adapters = vec![adapter("a")];
    let mut queue = queue(2, &["m"], [queued(2, 0, 5)]);
    queue.insert(QueuedJob { terms: JobTerms { after: vec![job(2)], ..waiting.terms.clone() }, ..waiting });
    let reasons = job_reasons(&mut queue, 1);
    assert!(reasons.contains(&JobReason::Waits { job: job(2), by_image: false, cancelled: false }));
    assert!(reasons.contains(&JobReason::Lacking { lack: Lack::Adapters(vec![adapter("a")]), devices: 2 }));
    queue.finish(job(2));
    queue.join(worker(2), [(0, Offer { adapters: [adapter("a")].into(), ..offer(&["m"]) })]);
    queue.set_limit(LimitKey::Model("m".into()), Some(0));
    let reasons = job_reasons(&mut queue, 1);
    assert!(reasons.contains(&JobReason::AtLimit(Limit::Other(LimitKey::Model("m".into()), 0))));
    assert!(!reasons.iter().any(|reason| matches!(reason, JobReason::Waits { .. })));
    queue.set_limit(LimitKey::Model("m".into()), None);
    queue.set_active(job(1), false, None);
    assert!(job_reasons(&mut queue, 1).contains(&JobReason::Paused(None)));
    queue.set_active(job(1), true, None);
    let reasons = job_reasons(&mut queue, 1);
    assert!(reasons.contains(&JobReason::Able { devices: 1 }));
    assert_eq!(next(&mut queue, 2).unwrap().job, job(1));
    assert!(queue.why_job(job(7), 0).is_none());
}

#[test]
fn a_job_tells_its_tenants_place_and_what_is_before_it() {
    let jobs = [
        of_tenant("a", queued(1, 0, 50)),
        of_tenant("a", queued(2, 1, 50)),
        of_tenant("b", queued(3, 0, 50)),
    ];
    let mut queue = queue(1, &["m"], jobs);
    grant_at(&mut queue, 1, 0).unwrap();
    let outlook = queue.why_job(job(2), 0).unwrap();
    assert_eq!((outlook.before, outlook.share.competing, outlook.share.before), (1, 2, 1));
    assert_eq!((outlook.waiting, outlook.leased), (50, 0));
}

#[test]
fn a_device_tells_what_keeps_it_from_each_kind_of_job() {
    let mut avoiding = queued(3, 0, 5);
    avoiding.fresh_avoid = vec![worker(1)];
    let paused = QueuedJob { active: false, ..queued(2, 0, 5) };
    let mut queue = queue(2, &["m"], [of_model("x", queued(1, 0, 5)), paused, avoiding]);
    let outlook = queue.why_device(device(1), 0).unwrap();
    assert_eq!(outlook.next, None);
    let expected =
        [(DeviceReason::Lacking(Lack::Model), 1), (DeviceReason::Paused, 1), (DeviceReason::Avoided, 1)];
    assert_eq!(outlook.reasons, expected);
    queue.stop(worker(1));
    assert_eq!(queue.why_device(device(1), 0).unwrap().reasons[0].0, DeviceReason::Draining);
    assert!(queue.why_device(device(9), 0).is_none());
}

proptest! {
    #[test]
    fn a_device_that_gets_nothing_has_a_reason_and_one_that_gets_something_is_told_of_it(
        jobs in proptest::collection::vec((0u8..3, 0u64..4, any::<bool>(), 0u8..4, any::<bool>()), 0..8),
        model_limit in proptest::option::of(0u32..2), tenant_limit in proptest::option::of(1u32..2), grants in 0usize..6,
        now in 0i64..1_000_000,
    ) {
        let mut queue = queue(2, &["m", "x"], []);
        for (id, (of, total, active, odd, urgent)) in (0u8..).zip(jobs) {
            let plain = of_model(["m", "x", "y"][usize::from(of)], queued(u128::from(id), i64::from(id), total + 1));
            let mut made = if urgent { interactive(plain) } else { plain };
            made.active = active;
            match odd {
                0 => made.terms.after = vec![job(0)],
                1 => made.fresh_avoid = vec![worker(1)],
                2 => made.terms.max_devices = Some(1),
                _ => {}
            }
            queue.insert(made);
        }
        queue.set_limit(LimitKey::Model("m".into()), model_limit);
        queue.set_tenant(&TenantName::default(), TenantPolicy { max_devices: tenant_limit, ..TenantPolicy::default() });
        for turn in 0..grants {
            grant_at(&mut queue, 1 + turn as u128 % 2, 0);
        }
        for n in [1, 2] {
            let outlook = queue.why_device(device(n), now).unwrap();
            let chosen = next_at(&mut queue, n, now).map(|pick| pick.job);
            prop_assert_eq!(outlook.next, chosen);
            prop_assert!(chosen.is_some() || !outlook.reasons.is_empty(), "{:?}", queue);
        }
    }
}
