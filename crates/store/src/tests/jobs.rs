//! Submitting, listing and steering jobs; models.

use seedfarm_core::{JobState, SeedPolicy};

use super::{Farm, fresh, job_id, manifest, new_job, plan_of, range, spec_of};
use crate::StoreError;

#[tokio::test]
async fn a_job_is_read_back_as_it_was_submitted() {
    let farm = Farm::new().await;
    let plan = plan_of(&["a cat", "a dog", "a cat"], 4);
    let inserted = farm.store.insert_job(farm.epoch(), &new_job(1), &plan).await.unwrap();
    let row = inserted.job;
    assert_eq!((row.total, row.cursor, row.done, row.failed), (12, 0, 0, 0));
    assert_eq!((row.seeds, row.state, row.terms.priority), (plan.seeds, JobState::Active, 3));
    assert_eq!(row.fresh(), Some(range(0, 12)));
    assert_eq!(row.model_digest, manifest("emoji", "v1").digest());
    assert!(row.created_at_ms > 1_700_000_000_000 && row.finished_at_ms.is_none());
    assert_eq!(farm.row(row.id).await, row);

    let lines = farm.store.lines(row.id, 0..3).await.unwrap();
    let expected: Vec<_> = plan.lines.iter().map(|line| line.template.digest()).collect();
    assert_eq!(lines.iter().map(|line| line.template).collect::<Vec<_>>(), expected);
    assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(farm.store.lines(row.id, 1..u64::MAX).await.unwrap(), lines[1..]);
    assert_eq!(farm.count("templates").await, 2, "equal lines share a template");
    for (digest, body) in farm.store.templates(&expected).await.unwrap() {
        let template = seedfarm_core::RecipeTemplate::from_json(&body).unwrap();
        assert_eq!(template.digest(), digest);
    }
    farm.assert_sound().await;
}

#[tokio::test]
async fn seeds_keep_all_64_bits() {
    let farm = Farm::new().await;
    let mut spec = spec_of(&["a cat"], 2);
    (spec.seed, spec.seed_policy) = (7, SeedPolicy::Explicit);
    spec.prompts[0].seed = Some(u64::MAX);
    let plan = seedfarm_core::plan::plan(&spec, &manifest("emoji", "v1")).unwrap();
    let job = farm.store.insert_job(farm.epoch(), &new_job(1), &plan).await.unwrap().job;
    assert_eq!(farm.store.lines(job.id, 0..1).await.unwrap()[0].seed, Some(u64::MAX));
    spec.seed = u64::MAX;
    let plan = seedfarm_core::plan::plan(&spec, &manifest("emoji", "v1")).unwrap();
    let job = farm.store.insert_job(farm.epoch(), &new_job(2), &plan).await.unwrap().job;
    assert_eq!(job.seeds.seed, u64::MAX);
}

#[tokio::test]
async fn the_same_key_answers_the_first_job_and_stores_nothing() {
    let farm = Farm::new().await;
    let first = farm.job(1, 4).await.row;
    let mut second = new_job(2);
    second.idempotency_key = "key 1".into();
    let plan = plan_of(&["something else"], 9);
    let inserted = farm.store.insert_job(farm.epoch(), &second, &plan).await.unwrap();
    assert!(inserted.repeated);
    assert_eq!(inserted.job, first);
    assert_eq!((farm.count("jobs").await, farm.count("templates").await), (1, 1));
}

#[tokio::test]
async fn a_job_is_stored_whole_or_not_at_all() {
    let farm = Farm::new().await;
    let mut plan = plan_of(&["one", "two"], 1);
    // PostgreSQL cannot store NUL; admission refuses it long before, so this stands for any late fault.
    let late = plan_of(&["three"], 1).lines.remove(0);
    plan.lines = std::iter::repeat_n(plan.lines.remove(0), 1500).chain([late]).collect();
    let mut job = new_job(1);
    job.is_replay = false;
    plan.total = 1501;
    plan.lines[1500].template.prompt = "never stored".into();
    let breaks = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'no line past 1499' ; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON job_lines FOR EACH ROW WHEN (new.line > 1499)
        EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(breaks).execute(&farm.store.pool).await.unwrap();
    let error = farm.store.insert_job(farm.epoch(), &job, &plan).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    for table in ["jobs", "job_lines", "job_cursors", "job_progress", "templates", "models"] {
        assert_eq!(farm.count(table).await, 0, "{table}");
    }
    sqlx::query("DROP TRIGGER refuse ON job_lines").execute(&farm.store.pool).await.unwrap();
    assert!(!farm.store.insert_job(farm.epoch(), &job, &plan).await.unwrap().repeated);
    assert_eq!(farm.count("job_lines").await, 1501);
}

#[tokio::test]
async fn a_job_of_a_million_images_is_one_row() {
    let farm = Farm::new().await;
    let job = farm.job(1, 1_000_000).await.row;
    assert_eq!(job.total, 1_000_000);
    for table in ["jobs", "job_lines", "job_cursors", "job_progress", "templates"] {
        assert_eq!(farm.count(table).await, 1, "{table}");
    }
    for table in ["ranges", "leases", "results"] {
        assert_eq!(farm.count(table).await, 0, "{table}");
    }
    farm.lease(job.id, 0, 999_999).await;
    assert_eq!(farm.row(job.id).await.fresh(), Some(range(999_999, 1_000_000)));
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_state_changes_only_from_the_one_expected() {
    let farm = Farm::new().await;
    let job = farm.job(1, 4).await.row.id;
    let set = |from, to| farm.store.set_state(farm.epoch(), job, from, to);
    assert!(set(JobState::Active, JobState::Paused).await.unwrap());
    assert!(!set(JobState::Active, JobState::Cancelled).await.unwrap());
    assert_eq!(farm.row(job).await.state, JobState::Paused);
    assert_eq!(farm.claim_one(fresh(job, 0, 2)).await, None, "a paused job gives no lease");
    assert!(set(JobState::Paused, JobState::Active).await.unwrap());
    farm.lease(job, 0, 2).await;
    assert!(set(JobState::Active, JobState::Cancelled).await.unwrap());
    assert!(farm.row(job).await.finished_at_ms.is_some());
    assert_eq!(farm.claim_one(fresh(job, 2, 4)).await, None, "nor does a cancelled one");
    farm.assert_sound().await;
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_those_of_replays_on_request() {
    let farm = Farm::new().await;
    for number in 1..=3 {
        let mut job = new_job(number);
        job.is_replay = number == 2;
        farm.store.insert_job(farm.epoch(), &job, &plan_of(&["a cat"], 1)).await.unwrap();
    }
    let listed = |limit, with_replays| {
        let store = farm.store.clone();
        async move {
            let jobs = store.jobs(limit, with_replays).await.unwrap();
            jobs.iter().map(|job| job.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed(10, false).await, [job_id(3), job_id(1)]);
    assert_eq!(listed(2, true).await, [job_id(3), job_id(2)]);
    assert_eq!(farm.store.job(job_id(9)).await.unwrap(), None);
}

#[tokio::test]
async fn a_model_is_found_by_name_and_by_digest() {
    let farm = Farm::new().await;
    let (old, new) = (manifest("emoji", "v1"), manifest("emoji", "v2"));
    farm.store.put_models(std::slice::from_ref(&old)).await.unwrap();
    farm.store.put_models(&[new.clone(), old.clone(), manifest("other", "v2")]).await.unwrap();
    assert_eq!(farm.store.model("emoji").await.unwrap().as_ref(), Some(&new), "the newest by name");
    assert_eq!(farm.store.model(&old.digest().to_string()).await.unwrap().as_ref(), Some(&old));
    assert_eq!(farm.store.model("unknown").await.unwrap(), None);
    assert_eq!(farm.store.models().await.unwrap().len(), 3);

    let mut changed = old.clone();
    changed.defaults.steps = 30;
    farm.store.put_models(std::slice::from_ref(&changed)).await.unwrap();
    assert_eq!(farm.store.model(&old.digest().to_string()).await.unwrap(), Some(changed));
    assert_eq!(farm.store.model("emoji").await.unwrap(), Some(new), "its age does not change");
}

#[tokio::test]
async fn text_that_cannot_be_stored_is_an_error_of_that_call_alone() {
    let farm = Farm::new().await;
    let mut job = new_job(1);
    job.idempotency_key = "a\0b".into();
    let error = farm.store.insert_job(farm.epoch(), &job, &plan_of(&["a cat"], 1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Database(_)) && !error.is_transient(), "{error:?}");
    farm.job(2, 1).await;
}
