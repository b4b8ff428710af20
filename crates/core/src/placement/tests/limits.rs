//! Most devices at once: for a job, a tenant, a model, a licence.

use super::*;
use crate::terms::{LimitKey, TenantPolicy};

/// How many of workers 1 to 5 get something now.
fn served(queue: &mut Queue) -> Vec<Pick> {
    (1..=5).filter_map(|n| grant_at(queue, n, 0)).collect()
}

fn at_most(devices: u32, job: QueuedJob) -> QueuedJob {
    QueuedJob { terms: JobTerms { max_devices: Some(devices), ..job.terms }, ..job }
}

/// Whatever sets the limit of two: two devices are served, both may go on, and a third comes in when one is
/// through.
fn holds(mut queue: Queue) {
    let picks = served(&mut queue);
    assert_eq!(picks.len(), 2);
    let again = served(&mut queue);
    let mut same: Vec<DeviceId> = again.iter().map(|pick| pick.device).collect();
    same.sort_unstable();
    assert_eq!(same, [device(1), device(2)], "who renders it already may go on");
    end(&mut queue, &picks[0], 1000);
    assert_eq!(next(&mut queue, 3), None, "the first device still holds a lease");
    end(&mut queue, &again[0], 1000);
    assert!(queue.take_stirred().all || !queue.is_idle());
    assert!(grant_at(&mut queue, 3, 0).is_some());
    assert_eq!(next(&mut queue, 4), None);
}

#[test]
fn a_job_renders_on_no_more_devices_than_it_allows() {
    holds(queue(5, &["m"], [at_most(2, queued(1, 0, 1000))]));
}

#[test]
fn a_tenant_has_no_more_devices_than_its_policy_allows() {
    let mut queue = queue(5, &["m"], [queued(1, 0, 500), queued(2, 0, 500)]);
    let policy = TenantPolicy { max_devices: Some(2), ..TenantPolicy::default() };
    queue.set_tenant(&TenantName::default(), policy);
    holds(queue);
}

#[test]
fn a_model_and_a_licence_have_no_more_devices_than_their_limits_allow() {
    let mut of_model = queue(5, &["m"], [queued(1, 0, 1000)]);
    of_model.set_limit(LimitKey::Model("m".into()), Some(2));
    holds(of_model);
    let licensed = |id| {
        let job = queued(id, 0, 500);
        QueuedJob { class: Class { licence: Some("Research".into()), ..job.class }, ..job }
    };
    let mut of_licence = queue(5, &["m"], [licensed(1), licensed(2)]);
    of_licence.set_limit(LimitKey::Licence("Research".into()), Some(2));
    holds(of_licence);
}

#[test]
fn what_is_at_its_limit_leaves_the_devices_to_others() {
    let mut queue = queue(5, &["m"], [at_most(1, queued(1, 0, 100)), queued(2, 1, 100)]);
    let jobs: Vec<JobId> = served(&mut queue).iter().map(|pick| pick.job).collect();
    assert_eq!(jobs, [job(1), job(2), job(2), job(2), job(2)]);
}

#[test]
fn a_limit_that_is_lifted_or_set_to_nothing_acts_at_once() {
    let mut queue = queue(5, &["m"], [queued(1, 0, 1000)]);
    queue.set_limit(LimitKey::Model("m".into()), Some(0));
    assert_eq!(served(&mut queue), []);
    queue.set_limit(LimitKey::Model("m".into()), None);
    assert_eq!(served(&mut queue).len(), 5);
}

#[test]
fn terms_that_change_move_a_job_to_its_new_tenant_and_devices() {
    let mut queue = queue(2, &["m"], [of_tenant("a", queued(1, 0, 100)), of_tenant("b", queued(2, 0, 100))]);
    let first = grant_at(&mut queue, 1, 0).unwrap();
    assert_eq!(first.job, job(1));
    let asking = Requirements { memory_bytes: 1, ..Requirements::default() };
    queue.set_terms(job(1), JobTerms { requirements: asking, ..JobTerms::of(tenant("c")) }, &[]);
    assert_eq!(grant_at(&mut queue, 2, 0).unwrap().job, job(2), "no device has told its memory");
    end(&mut queue, &first, 10_000);
    queue.join(worker(3), [(0, Offer { memory_bytes: 2, ..offer(&["m"]) })]);
    assert_eq!(grant_at(&mut queue, 3, 0).unwrap().job, job(1));
}
