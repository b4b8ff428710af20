//! What is read back: snapshots, images, replays; and the check of it all.

use seedfarm_core::completion::FailureClass;
use seedfarm_core::plan::JobPlan;
use seedfarm_core::verdict::Difference;
use seedfarm_core::{ImageId, JobState, Numerics, ReplayId, SeedPolicy, Verdict};
use uuid::Uuid;

use super::{
    Farm, Planned, failure, fingerprint, fresh, image, job_id, manifest, new_job, plan_of, range, spec_of,
    worker,
};
use crate::{Census, Finding, NewReplay, Outlook, StoreError, audit, check};

#[tokio::test]
async fn a_snapshot_is_what_was_written() {
    let farm = Farm::new().await;
    let (job, paused, idle) = (farm.job(1, 20).await, farm.job(2, 4).await, farm.job(3, 4).await);
    let (done, stopped) = (farm.job(4, 1).await, farm.job(5, 4).await);
    let mut claim = fresh(job.row.id, 0, 6);
    (claim.device, claim.avoid) = (3, vec![worker(1), worker(2)]);
    let held = farm.claim_one(claim).await.unwrap();
    let part = farm.lease(job.row.id, 6, 10).await;
    let mut completion = farm.completion(&job, part, [6, 8]);
    completion.failure = failure(FailureClass::Worker);
    let back = farm.complete_one(completion).await.retry;
    let finished = farm.lease(done.row.id, 0, 1).await;
    farm.complete_one(farm.completion(&done, finished, 0..1)).await;
    let late = farm.lease(stopped.row.id, 0, 4).await;
    for (job, to) in [(&paused, JobState::Paused), (&stopped, JobState::Cancelled)] {
        farm.store.set_state(farm.epoch(), job.row.id, JobState::Active, to).await.unwrap();
    }

    let snapshot = farm.store.snapshot(farm.epoch()).await.unwrap();
    let ids: Vec<_> = snapshot.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, [job.row.id, paused.row.id, idle.row.id, stopped.row.id]);
    assert_eq!(snapshot.jobs[0], farm.row(job.row.id).await);
    assert_eq!((snapshot.jobs[0].cursor, snapshot.jobs[0].done), (10, 2));
    assert_eq!(snapshot.ranges, back);
    assert_eq!(back.iter().map(|row| row.retry.range).collect::<Vec<_>>(), [range(7, 8), range(9, 10)]);
    assert_eq!(snapshot.leases.iter().map(|lease| lease.fence).collect::<Vec<_>>(), [held, late]);
    let lease = &snapshot.leases[0];
    assert_eq!((lease.job, lease.range, lease.worker, lease.device), (job.row.id, range(0, 6), worker(1), 3));
    assert_eq!(lease.avoid, [worker(1), worker(2)]);

    let totals = farm.store.totals().await.unwrap();
    assert_eq!((totals.images, totals.active_jobs, totals.leases), (3, 2, 2));
    farm.assert_sound().await;
}

#[tokio::test]
async fn images_are_read_back_as_they_were_completed() {
    let farm = Farm::new().await;
    let job = farm.job(1, 5).await;
    let fence = farm.lease(job.row.id, 0, 5).await;
    farm.complete_one(farm.completion(&job, fence, [0, 1, 3, 4])).await;
    let images = farm.store.images(job.row.id, 1, 2).await.unwrap();
    assert_eq!(images.iter().map(|image| image.id.index).collect::<Vec<_>>(), [1, 3]);
    let (stored, sent) = (&images[1], image(&job.plan, 3));
    assert_eq!((stored.seed, stored.template, stored.recipe), (sent.seed, sent.template, sent.recipe));
    assert_eq!((stored.pixels, stored.artifact), (sent.pixels, sent.artifact));
    assert_eq!((stored.artifact_bytes, stored.duration_ms), (sent.artifact_bytes, sent.duration_ms));
    assert_eq!((stored.fingerprint, stored.class), (farm.fingerprint.digest(), farm.fingerprint.class()));
    assert_eq!((stored.worker, stored.attempt), (worker(1), fence.attempt));
    let one = farm.store.image(stored.id).await.unwrap();
    assert_eq!(one.as_ref(), Some(stored));
    for index in [2, 5, u64::MAX] {
        assert_eq!(farm.store.image(ImageId { job: job.row.id, index }).await.unwrap(), None);
    }
    let known = farm.store.fingerprint(&stored.fingerprint).await.unwrap();
    assert_eq!(known, Some(fingerprint("cpu", Numerics::Strict)));
    let workers = farm.store.workers().await.unwrap();
    let made = workers.iter().find(|row| row.id == worker(1)).unwrap();
    assert_eq!((made.images, made.device_ms), (4, 200));
    farm.store.touch_workers(&[worker(2), worker(1), worker(7)]).await.unwrap();
}

/// Stores a job under a seed policy and renders all of it.
async fn rendered(farm: &Farm, number: u128, policy: SeedPolicy) -> Planned {
    let mut spec = spec_of(&["a pear", "a plum"], 3);
    (spec.seed_policy, spec.seed) = (policy, u64::MAX - 2);
    if policy == SeedPolicy::Explicit {
        for (line, seed) in spec.prompts.iter_mut().zip([7, u64::MAX]) {
            line.seed = Some(seed);
        }
    }
    let plan: JobPlan = seedfarm_core::plan::plan(&spec, &manifest("emoji", "v1")).unwrap();
    let row = farm.store.insert_job(farm.epoch(), &new_job(number), &plan).await.unwrap().job;
    let job = Planned { row, plan };
    let fence = farm.lease(job.row.id, 0, 6).await;
    farm.complete_one(farm.completion(&job, fence, 0..6)).await;
    job
}

#[tokio::test]
async fn an_image_is_found_by_its_recipe_under_every_seed_policy() {
    for policy in SeedPolicy::ALL {
        let farm = Farm::new().await;
        let job = rendered(&farm, 1, policy).await;
        for index in 0..6 {
            let recipe = job.plan.recipe(index).unwrap();
            let found = farm.store.image_by_recipe(&recipe).await.unwrap().unwrap();
            assert_eq!(found.recipe, recipe.digest(), "{policy:?}");
            assert_eq!(found.id.job, job.row.id);
        }
        let mut unknown = job.plan.recipe(0).unwrap();
        unknown.seed = 123_456_789;
        assert_eq!(farm.store.image_by_recipe(&unknown).await.unwrap(), None);
        unknown.template.prompt = "something else".into();
        assert_eq!(farm.store.image_by_recipe(&unknown).await.unwrap(), None);
    }
}

fn replay_of(job: &Planned, number: u128, outlook: Outlook) -> NewReplay {
    let recipe = job.plan.recipe(1).unwrap();
    NewReplay {
        id: ReplayId::from_uuid(Uuid::from_u128(number)),
        original: Some(ImageId { job: job.row.id, index: 1 }),
        recipe: recipe.digest(),
        recipe_json: recipe.canonical(),
        expected_pixels: image(&job.plan, 1).pixels,
        expected_artifact: None,
        original_worker: Some(worker(1)),
        original_fingerprint: Some(fingerprint("cpu", Numerics::Strict)),
        outlook,
    }
}

#[tokio::test]
async fn a_replay_waits_for_its_job_and_is_judged_once() {
    let farm = Farm::new().await;
    let job = farm.job(1, 3).await;
    let mut again = new_job(2);
    again.is_replay = true;
    let plan = plan_of(&["a red apple"], 1);
    let new = replay_of(&job, 1, Outlook::Rendered(Box::new((again, plan.clone()))));
    let (row, stored) = farm.store.insert_replay(farm.epoch(), &new).await.unwrap();
    let replayed = Planned { row: stored.unwrap(), plan };
    assert_eq!((row.job, row.original), (Some(job_id(2)), new.original));
    assert_eq!((row.recipe, &row.recipe_json), (new.recipe, &new.recipe_json));
    assert_eq!(
        (row.original_worker, &row.original_fingerprint),
        (Some(worker(1)), &new.original_fingerprint)
    );
    assert!(row.verdict.is_none() && row.rendered.is_none() && replayed.row.is_replay);
    assert_eq!(farm.store.unjudged().await.unwrap(), [], "its job is not finished");

    let fence = farm.lease(job_id(2), 0, 1).await;
    farm.complete_one(farm.completion(&replayed, fence, 0..1)).await;
    let waiting = farm.store.unjudged().await.unwrap();
    assert_eq!(waiting.len(), 1);
    let rendered = waiting[0].rendered.as_ref().unwrap();
    assert_eq!((rendered.pixels, rendered.worker), (image(&replayed.plan, 0).pixels, worker(1)));
    assert_eq!(rendered.fingerprint, fingerprint("cpu", Numerics::Strict));
    assert_eq!(farm.store.replay_of_job(job_id(2)).await.unwrap().as_ref(), Some(&waiting[0]));

    let difference = Difference { psnr_db: Some(41.25), max_channel: 3, pixels: 9 };
    let verdict = Verdict::Equivalent { difference };
    assert!(farm.store.judge(row.id, &verdict).await.unwrap());
    assert!(!farm.store.judge(row.id, &Verdict::Exact).await.unwrap(), "the first verdict stays");
    let judged = farm.store.replay(row.id).await.unwrap().unwrap();
    assert_eq!(judged.verdict, Some(verdict));
    assert_eq!(farm.store.unjudged().await.unwrap(), []);
    assert_eq!(farm.store.replays(5).await.unwrap(), [judged]);
}

#[tokio::test]
async fn what_cannot_be_rendered_is_judged_at_once() {
    let farm = Farm::new().await;
    let job = farm.job(1, 3).await;
    let verdict = Verdict::Unverifiable { missing: "the model".into() };
    let new = replay_of(&job, 1, Outlook::Judged(verdict.clone()));
    let (row, stored) = farm.store.insert_replay(farm.epoch(), &new).await.unwrap();
    assert_eq!((row.verdict, row.job, stored), (Some(verdict), None, None));
    assert_eq!(farm.store.unjudged().await.unwrap(), []);
}

#[tokio::test]
async fn a_replay_whose_image_dies_names_the_error() {
    let farm = Farm::new().await;
    let job = farm.job(1, 3).await;
    let mut again = new_job(2);
    again.is_replay = true;
    let plan = plan_of(&["a red apple"], 1);
    let new = replay_of(&job, 1, Outlook::Rendered(Box::new((again, plan.clone()))));
    let (row, stored) = farm.store.insert_replay(farm.epoch(), &new).await.unwrap();
    let replayed = Planned { row: stored.unwrap(), plan };
    let mut fence = farm.lease(job_id(2), 0, 1).await;
    loop {
        let mut completion = farm.completion(&replayed, fence, []);
        completion.failure = failure(FailureClass::Task);
        match farm.complete_one(completion).await.retry.first() {
            Some(next) => fence = farm.lease_again(next).await,
            None => break,
        }
    }
    let waiting = farm.store.unjudged().await.unwrap();
    assert_eq!(waiting[0].id, row.id);
    assert_eq!(waiting[0].error.as_deref(), Some("a fault of the task"));
    assert!(waiting[0].rendered.is_none());
}

#[tokio::test]
async fn a_deposed_coordinator_gets_no_snapshot() {
    let farm = Farm::new().await;
    let epoch = farm.epoch();
    let store = farm.store.clone();
    farm.reign.end().await;
    let next = store.take_over().await.unwrap();
    assert!(matches!(store.snapshot(epoch).await, Err(StoreError::Deposed { .. })));
    assert_eq!(store.snapshot(next.epoch()).await.unwrap().jobs, []);
}

/// Each damage that a fault of ours could do, and what the check says to it.
#[tokio::test]
async fn the_check_finds_what_is_wrong() {
    let farm = Farm::new().await;
    let job = farm.job(1, 20).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    farm.complete_one(farm.completion(&job, fence, 0..4)).await;
    farm.lease(job.row.id, 4, 8).await;
    farm.assert_sound().await;
    let id = job.row.id;
    let missing = |lo, hi| Finding::Missing { job: id, images: (lo, hi) };
    let twice = |lo, hi| Finding::Twice { job: id, images: (lo, hi) };
    let counters = |done, stored| Finding::Counters { job: id, done: (done, stored), failed: (0, 0) };
    let tally = |counted, stored| Finding::Tally { worker: worker(1), counted, stored };
    let orphan = |names: &str| Finding::Orphan { image: ImageId { job: id, index: 2 }, names: names.into() };
    let damages: [(&str, Vec<Finding>); 9] = [
        ("UPDATE job_progress SET done = 5", vec![counters(5, 4)]),
        ("UPDATE worker_tallies SET images = 9", vec![tally(9, 4)]),
        ("DELETE FROM leases", vec![missing(4, 8)]),
        ("UPDATE leases SET lo = 5, hi = 7", vec![missing(4, 5), missing(7, 8)]),
        ("UPDATE job_cursors SET next = 6", vec![twice(6, 8)]),
        ("UPDATE job_cursors SET next = 20", vec![missing(8, 20)]),
        ("UPDATE leases SET lo = 3", vec![twice(3, 4)]),
        ("UPDATE results SET template = sha256('x') WHERE idx = 2", vec![orphan("template")]),
        (
            "UPDATE jobs SET state = 'finished', finished_at = now()",
            vec![Finding::State { job: id, state: "finished".into() }],
        ),
    ];
    for (damage, expected) in damages {
        let mut connection = farm.store.pool.acquire().await.unwrap();
        let findings = with_damage(&farm, &mut connection, damage).await;
        assert_eq!(findings, expected, "{damage}");
        assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
    }
    farm.assert_sound().await;
}

/// As above, for what concerns device time, lines, epochs, dependencies and holds.
#[tokio::test]
async fn the_check_finds_wrong_times_lines_epochs_dependencies_and_holds() {
    let farm = Farm::new().await;
    let job = farm.job(1, 20).await;
    farm.store.insert_job(farm.epoch(), &new_job(2), &plan_of(&["a pear"], 1)).await.unwrap();
    let fence = farm.lease(job.row.id, 0, 4).await;
    farm.complete_one(farm.completion(&job, fence, 0..4)).await;
    let later = farm.lease(job.row.id, 4, 8).await.epoch.0 + 1;
    farm.assert_sound().await;
    let id = job.row.id;
    let line = Finding::Orphan { image: ImageId { job: id, index: 2 }, names: "line".into() };
    let damages: [(&str, Finding); 6] = [
        ("UPDATE job_progress SET device_ms = 199", Finding::JobTime { job: id, counted: 199, stored: 200 }),
        (
            "UPDATE worker_tallies SET device_ms = 201",
            Finding::WorkerTime { worker: worker(1), counted: 201, stored: 200 },
        ),
        (
            "UPDATE results SET template = l.template FROM job_lines l
            WHERE l.job_id <> results.job_id AND idx = 2",
            line,
        ),
        ("UPDATE leases SET epoch = epoch + 1", Finding::Epoch { job: id, images: (4, 8), epoch: later }),
        (
            "UPDATE jobs SET after = ARRAY['00000000-0000-0000-0000-000000000009'::uuid] WHERE total = 20",
            Finding::Dependency { job: id, on: job_id(9) },
        ),
        (
            "ALTER TABLE jobs DROP CONSTRAINT jobs_check1; UPDATE jobs SET hold = 'budget' WHERE total = 20",
            Finding::State { job: id, state: "active".into() },
        ),
    ];
    for (damage, expected) in damages {
        let mut connection = farm.store.pool.acquire().await.unwrap();
        let findings = with_damage(&farm, &mut connection, damage).await;
        assert_eq!(findings, [expected], "{damage}");
        assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
    }
    farm.assert_sound().await;
}

#[tokio::test]
async fn the_check_says_how_much_it_looked_at() {
    let farm = Farm::new().await;
    let job = farm.job(1, 20).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    farm.complete_one(farm.completion(&job, fence, 0..3)).await;
    farm.lease(job.row.id, 4, 8).await;
    let census = audit(&farm.store).await.unwrap().census;
    let expected = Census { jobs: 1, results: 3, dead: 0, ranges: 1, leases: 1, workers: 2 };
    assert_eq!(census, expected);
}

#[tokio::test]
async fn jobs_from_before_device_time_was_counted_get_that_of_their_results() {
    let farm = Farm::new().await;
    let job = farm.job(1, 20).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    farm.complete_one(farm.completion(&job, fence, 0..4)).await;
    sqlx::raw_sql("UPDATE job_progress SET device_ms = 0").execute(&farm.store.pool).await.unwrap();
    let migration = include_str!("../../../../migrations/0008_device_time.sql");
    sqlx::raw_sql(migration).execute(&farm.store.pool).await.unwrap();
    assert_eq!(farm.row(job.row.id).await.device_ms, 200);
    farm.assert_sound().await;
}

/// Does damage, checks, and undoes it from a copy of the tables.
async fn with_damage(farm: &Farm, connection: &mut sqlx::PgConnection, damage: &'static str) -> Vec<Finding> {
    let tables = ["job_progress", "worker_tallies", "leases", "job_cursors", "results", "jobs"];
    for table in tables {
        let copy = format!("CREATE TEMP TABLE copy_{table} AS TABLE {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut *connection).await.unwrap();
    }
    sqlx::raw_sql(damage).execute(&mut *connection).await.unwrap();
    let findings = check(&farm.store).await.unwrap();
    for table in tables {
        let unhindered = "SET LOCAL session_replication_role = replica";
        let restore = format!(
            "BEGIN; {unhindered}; DELETE FROM {table};
            INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE copy_{table}; COMMIT;
            DROP TABLE copy_{table}"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(restore)).execute(&mut *connection).await.unwrap();
    }
    findings
}
