//! What people do to jobs after their submission.

use seedfarm_core::completion::FailureClass;
use seedfarm_core::terms::{Caps, Hold, LimitKey, TenantPolicy, Urgency};
use seedfarm_core::{ImageRange, JobState, JobTerms, TenantName};

use super::{Farm, Planned, failure, fresh, new_job, plan_of, range};
use crate::{Completion, DeviceLimit, NewJob, StoreError};

impl Farm {
    /// A job of one line whose caps are `caps`.
    async fn capped(&self, images: u32, caps: Caps) -> Planned {
        let plan = plan_of(&["a red apple"], images);
        let terms = JobTerms { caps, ..JobTerms::default() };
        let new = NewJob { terms, ..new_job(1) };
        let inserted = self.store.insert_job(self.epoch(), &new, &plan).await.unwrap();
        Planned { row: inserted.job, plan }
    }

    /// Gives image `index` of a job up: its task fails until it is dead.
    async fn give_up(&self, job: &Planned, index: u64) {
        let mut claim = fresh(job.row.id, index, index + 1);
        loop {
            let fence = self.claim_one(claim).await.unwrap();
            let completion =
                Completion { failure: failure(FailureClass::Task), ..self.completion(job, fence, []) };
            let outcome = self.complete_one(completion).await;
            match outcome.retry.first() {
                Some(row) => claim = super::again(row),
                None => return,
            }
        }
    }
}

fn all() -> Vec<ImageRange> {
    Vec::new()
}

#[tokio::test]
async fn images_that_were_given_up_are_retried_as_if_never_tried_and_the_job_goes_on() {
    let farm = Farm::new().await;
    let job = farm.job(1, 3).await;
    let id = job.row.id;
    for index in 0..3 {
        farm.give_up(&job, index).await;
    }
    assert_eq!(farm.row(id).await.state, JobState::Finished);
    let none = farm.store.retry_dead(farm.epoch(), id, &all(), "of the moon").await.unwrap();
    assert_eq!((none.images, none.state_changed), (0, false));
    let some = farm.store.retry_dead(farm.epoch(), id, &[range(1, 3)], "of the task").await.unwrap();
    assert_eq!((some.images, some.state_changed), (2, true));
    let row = farm.row(id).await;
    assert_eq!((row.state, row.failed, row.finished_at_ms), (JobState::Active, 1, None));
    let waiting = farm.store.unfinished(id).await.unwrap().unwrap().ranges;
    assert_eq!(
        waiting.iter().map(|row| (row.retry.range, row.retry.spent)).collect::<Vec<_>>(),
        [(range(1, 3), 0)]
    );
    farm.assert_sound().await;
    let fence = farm.lease_again(&waiting[0]).await;
    farm.complete_one(farm.completion(&job, fence, 1..3)).await;
    let row = farm.row(id).await;
    assert_eq!((row.state, row.done, row.failed), (JobState::Finished, 2, 1));
    farm.assert_sound().await;
}

#[tokio::test]
async fn nothing_of_a_cancelled_job_is_retried() {
    let farm = Farm::new().await;
    let job = farm.job(1, 2).await;
    farm.give_up(&job, 0).await;
    assert!(
        farm.store.set_state(farm.epoch(), job.row.id, JobState::Active, JobState::Cancelled).await.unwrap()
    );
    let retried = farm.store.retry_dead(farm.epoch(), job.row.id, &all(), "").await.unwrap();
    assert_eq!(retried.images, 0);
    assert_eq!(farm.count("dead").await, 1);
}

#[tokio::test]
async fn waiting_images_are_given_up_and_leased_ones_are_not() {
    let farm = Farm::new().await;
    let job = farm.job(1, 10).await;
    let id = job.row.id;
    let lost = farm.lease(id, 0, 4).await;
    let held = farm.lease(id, 4, 6).await;
    farm.store.release(farm.epoch(), &[lost.lease], FailureClass::HandedBack).await.unwrap();
    let skipped = farm.store.skip(farm.epoch(), id, &[range(2, 8)], "bad prompts").await.unwrap();
    assert_eq!((skipped.images, skipped.state_changed), (4, false));
    farm.assert_sound().await;
    let dead = farm.store.dead(id, 10).await.unwrap();
    assert_eq!(dead.iter().map(|dead| dead.id.index).collect::<Vec<_>>(), [2, 3, 6, 7]);
    assert_eq!(dead[0].error, "skipped: bad prompts");
    let unfinished = farm.store.unfinished(id).await.unwrap().unwrap();
    assert_eq!(unfinished.job.fresh(), ImageRange::new(8, 10));
    assert_eq!(unfinished.ranges.iter().map(|row| row.retry.range).collect::<Vec<_>>(), [range(0, 2)]);
    farm.complete_one(farm.completion(&job, held, 4..6)).await;
    let rest = farm.store.skip(farm.epoch(), id, &[range(0, 10)], "enough").await.unwrap();
    assert_eq!((rest.images, rest.state_changed), (4, true));
    let row = farm.row(id).await;
    assert_eq!((row.state, row.done, row.failed), (JobState::Finished, 2, 8));
    farm.assert_sound().await;
    let actions = farm.store.control_log(id, 10).await.unwrap();
    assert_eq!(actions.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["skip", "skip"]);
    assert_eq!(actions[1].details, "4 images: bad prompts");
}

#[tokio::test]
async fn what_is_skipped_in_the_middle_of_fresh_images_leaves_those_before_it_waiting() {
    let farm = Farm::new().await;
    let job = farm.job(1, 10).await;
    farm.store.skip(farm.epoch(), job.row.id, &[range(3, 5)], "").await.unwrap();
    let unfinished = farm.store.unfinished(job.row.id).await.unwrap().unwrap();
    assert_eq!(unfinished.job.fresh(), ImageRange::new(5, 10));
    assert_eq!(unfinished.ranges.iter().map(|row| row.retry.range).collect::<Vec<_>>(), [range(0, 3)]);
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_job_is_paused_when_its_budget_is_used_up_whatever_became_of_the_images() {
    let farm = Farm::new().await;
    // An image takes 50 ms.
    let job = farm.capped(10, Caps { budget_ms: Some(150), ..Caps::default() }).await;
    let id = job.row.id;
    let first = farm.lease(id, 0, 2).await;
    farm.complete_one(farm.completion(&job, first, 0..2)).await;
    assert_eq!((farm.row(id).await.state, farm.row(id).await.device_ms), (JobState::Active, 100));
    let second = farm.lease(id, 2, 3).await;
    let settled = farm.store.complete(farm.epoch(), &[farm.completion(&job, second, 2..3)]).await.unwrap();
    assert_eq!(settled.progress[0].held, Some(Hold::Budget));
    let row = farm.row(id).await;
    assert_eq!(
        (row.state, row.hold, row.device_ms, row.done),
        (JobState::Paused, Some(Hold::Budget), 150, 3)
    );
    assert_eq!(farm.claim_one(fresh(id, 3, 4)).await, None, "a paused job gives no lease");
    let terms = JobTerms { caps: Caps { budget_ms: Some(1000), ..Caps::default() }, ..row.terms };
    farm.store.set_terms(farm.epoch(), id, &terms, "budget_ms 150 -> 1000").await.unwrap().unwrap();
    assert!(farm.store.set_state(farm.epoch(), id, JobState::Paused, JobState::Active).await.unwrap());
    assert_eq!(farm.row(id).await.hold, None);
    farm.lease(id, 3, 4).await;
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_job_is_paused_when_too_many_images_were_given_up_and_not_before() {
    let farm = Farm::new().await;
    let job = farm.capped(10, Caps { max_failures: Some(1), ..Caps::default() }).await;
    farm.give_up(&job, 0).await;
    assert_eq!(farm.row(job.row.id).await.state, JobState::Active);
    farm.give_up(&job, 1).await;
    let row = farm.row(job.row.id).await;
    assert_eq!((row.state, row.hold), (JobState::Paused, Some(Hold::Failures)));
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_job_that_reaches_its_cap_with_its_last_image_is_finished_and_not_paused() {
    let farm = Farm::new().await;
    let job = farm.capped(1, Caps { budget_ms: Some(50), ..Caps::default() }).await;
    let fence = farm.lease(job.row.id, 0, 1).await;
    let settled = farm.store.complete(farm.epoch(), &[farm.completion(&job, fence, 0..1)]).await.unwrap();
    assert_eq!((settled.progress[0].finished, settled.progress[0].held), (true, None));
    assert_eq!(farm.row(job.row.id).await.state, JobState::Finished);
}

#[tokio::test]
async fn terms_come_back_as_they_were_stored_and_a_final_job_keeps_them() {
    let farm = Farm::new().await;
    let other = farm.job(2, 5).await.row.id;
    let job = farm.job(1, 5).await;
    let terms = JobTerms {
        urgency: Urgency::Interactive,
        deadline_ms: Some(i64::MAX),
        max_devices: Some(u32::MAX >> 1),
        after: vec![other],
        after_images: vec![other],
        ..job.row.terms.clone()
    };
    let row = farm.store.set_terms(farm.epoch(), job.row.id, &terms, "much").await.unwrap().unwrap();
    assert_eq!(row.terms, terms);
    farm.store.set_state(farm.epoch(), job.row.id, JobState::Active, JobState::Cancelled).await.unwrap();
    assert_eq!(farm.store.set_terms(farm.epoch(), job.row.id, &terms, "").await.unwrap(), None);
}

#[tokio::test]
async fn a_tenant_over_its_quota_is_refused_and_nothing_is_stored() {
    let farm = Farm::new().await;
    let name = TenantName::default();
    let policy = TenantPolicy { weight: 7, max_devices: Some(2), max_images: Some(10) };
    farm.store.set_tenant(&name, &policy).await.unwrap();
    farm.job(1, 8).await;
    let plan = plan_of(&["a red apple"], 3);
    let refused = farm.store.insert_job(farm.epoch(), &new_job(2), &plan).await.unwrap_err();
    assert!(matches!(refused, StoreError::OverQuota { used: 8, asked: 3, limit: 10, .. }), "{refused}");
    assert_eq!(farm.count("jobs").await, 1);
    farm.job(3, 2).await;
    let rows = farm.store.tenants().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].policy, rows[0].jobs, rows[0].waiting, rows[0].is_set), (policy, 2, 10, true));
    assert!(farm.store.remove_tenant(&name).await.unwrap());
    assert!(!farm.store.remove_tenant(&name).await.unwrap());
    assert_eq!(farm.store.tenants().await.unwrap()[0].policy, TenantPolicy::default());
}

#[tokio::test]
async fn limits_on_devices_are_set_replaced_and_removed() {
    let farm = Farm::new().await;
    let key = LimitKey::Licence("CC0-1.0".into());
    for max_devices in [3, 0] {
        let limit = DeviceLimit { key: key.clone(), max_devices };
        farm.store.set_device_limit(&limit).await.unwrap();
        assert_eq!(farm.store.device_limits().await.unwrap(), [limit]);
    }
    assert!(farm.store.remove_device_limit(&key).await.unwrap());
    assert_eq!(farm.store.device_limits().await.unwrap(), []);
}
