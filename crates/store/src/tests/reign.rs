//! Who may write.

use std::time::Duration;

use seedfarm_core::completion::FailureClass;
use seedfarm_core::{CoordinatorId, Epoch, JobState, LeaseId, ReplayId, Verdict};
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use super::{Farm, fresh, image, job_id, new_job, plan_of};
use crate::reign::Lane;
use crate::{Announcement, NewReplay, Outlook, Store, StoreError};

#[tokio::test]
async fn only_one_coordinator_reigns_and_the_epoch_rises_with_the_next() {
    let farm = Farm::new().await;
    let first = farm.epoch();
    let other = Store::open(farm.database.options(), 2).await.unwrap();
    let refused = other.take_over().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Held { holder } if holder.contains("process")), "{refused}");
    assert!(!refused.is_transient());
    farm.reign.end().await;
    let second = other.take_over().await.unwrap();
    assert_eq!(second.epoch().0, first.0 + 1);
}

/// Breaks the connection that holds the lock, as a network would.
async fn break_the_lock(store: &Store) {
    let broken: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'seedfarm-reign' AND datname = current_database()",
    )
    .fetch_one(&store.pool)
    .await
    .unwrap();
    assert_eq!(broken, 1);
}

#[tokio::test]
async fn a_reign_whose_connection_breaks_is_lost_and_says_so() {
    let farm = Farm::new().await;
    break_the_lock(&farm.store).await;
    farm.reign.lost().await;
}

#[tokio::test]
async fn a_deposed_coordinator_cannot_write() {
    let farm = Farm::new().await;
    let job = farm.job(1, 8).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    let old = farm.epoch();
    break_the_lock(&farm.store).await;
    farm.reign.lost().await;
    let next = farm.store.take_over().await.unwrap();

    let store = &farm.store;
    let claimed = store.claim(old, &[fresh(job.row.id, 4, 8)]).await.map(drop);
    let completed = store.complete(old, &[farm.completion(&job, fence, 0..4)]).await.map(drop);
    let released = store.release(old, &[fence.lease], FailureClass::Worker).await.map(drop);
    let paused = store.set_state(old, job.row.id, JobState::Active, JobState::Paused).await.map(drop);
    let inserted = store.insert_job(old, &new_job(2), &plan_of(&["a cat"], 1)).await.map(drop);
    let recipe = job.plan.recipe(0).unwrap();
    let replay = NewReplay {
        id: ReplayId::from_uuid(Uuid::from_u128(1)),
        original: None,
        recipe: recipe.digest(),
        recipe_json: recipe.canonical(),
        expected_pixels: image(&job.plan, 0).pixels,
        expected_artifact: None,
        original_worker: None,
        original_fingerprint: None,
        outlook: Outlook::Judged(Verdict::Exact),
    };
    let replayed = store.insert_replay(old, &replay).await.map(drop);
    for write in [claimed, completed, released, paused, inserted, replayed] {
        assert!(matches!(write, Err(StoreError::Deposed { epoch }) if epoch == old), "{write:?}");
    }
    assert_eq!((farm.count("results").await, farm.count("jobs").await), (0, 1));

    // The lease was granted in the old epoch and is completed in the new one.
    let settled = store.complete(next.epoch(), &[farm.completion(&job, fence, 0..4)]).await.unwrap();
    assert!(settled.outcomes[0].lease_held);
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_takeover_waits_for_the_writes_of_the_reign_before() {
    let farm = Farm::new().await;
    let old = farm.epoch();
    let mut writing = farm.store.begin_lane(Lane::Claims, old).await.unwrap();
    let changed = sqlx::query("UPDATE workers SET version = 'written in time'");
    changed.execute(writing.connection()).await.unwrap();
    break_the_lock(&farm.store).await;
    let store = farm.store.clone();
    let takeover = tokio::spawn(async move { store.take_over().await.unwrap() });
    assert!(is_blocked(&farm.store, "seedfarm-reign", &takeover).await);
    writing.commit().await.unwrap();
    assert_eq!(takeover.await.unwrap().epoch().0, old.0 + 1);
    let workers = farm.store.workers().await.unwrap();
    assert!(workers.iter().all(|worker| worker.version == "written in time"));
}

/// Candidates that wait find out by themselves when the lock is free.
async fn wins(store: &Store) -> crate::Reign {
    let mut candidate = store.candidate().await.unwrap();
    loop {
        candidate = match candidate.bid().await.unwrap() {
            crate::Bid::Taken(reign) => return reign,
            crate::Bid::Held(candidate) => candidate,
        };
        candidate.end_silent_holder().await.unwrap();
    }
}

#[tokio::test]
async fn a_holder_without_a_pulse_is_ended_and_one_with_a_pulse_is_left_alone() {
    let farm = Farm::new().await;
    let mut candidate = farm.store.candidate().await.unwrap();
    let age = "SELECT extract(epoch FROM clock_timestamp() - backend_start)::float8 FROM pg_stat_activity
        WHERE pid = pg_backend_pid()";
    // By the database's own clock, longer than a silence may last.
    let mut clock = farm.database.options().connect().await.unwrap();
    while sqlx::query_scalar::<_, f64>(age).fetch_one(&mut clock).await.unwrap() < 2.5 {
        assert!(!candidate.end_silent_holder().await.unwrap());
    }
    let old = farm.epoch();
    farm.reign.end().await;
    let mut silent = farm.database.options().connect().await.unwrap();
    let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(crate::takeover::LOCK);
    lock.execute(&mut silent).await.unwrap();
    assert_eq!(wins(&farm.store).await.epoch().0, old.0 + 1);
    assert!(silent.ping().await.is_err());
}

#[tokio::test]
async fn a_write_that_nobody_goes_on_with_does_not_hold_up_a_takeover() {
    let farm = Farm::new().await;
    let old = farm.epoch();
    let mut halted = farm.store.begin_lane(Lane::Claims, old).await.unwrap();
    let changed = sqlx::query("UPDATE workers SET version = 'never committed'");
    changed.execute(halted.connection()).await.unwrap();
    break_the_lock(&farm.store).await;
    assert_eq!(wins(&farm.store).await.epoch().0, old.0 + 1);
    assert!(halted.commit().await.is_err());
    let workers = farm.store.workers().await.unwrap();
    assert!(workers.iter().all(|worker| worker.version != "never committed"));
}

#[tokio::test]
async fn coordinators_are_told_apart_and_only_the_epoch_in_force_makes_one_active() {
    let farm = Farm::new().await;
    let (hour, id) = (Duration::from_secs(3600), |n| CoordinatorId::from_uuid(Uuid::from_u128(n)));
    let say = |n, epoch| Announcement { id: id(n), address: format!("http://{n}"), epoch };
    let now = farm.epoch();
    for announcement in [say(1, Some(Epoch(now.0 - 1))), say(2, None), say(3, Some(now))] {
        farm.store.announce(&announcement, hour).await.unwrap();
    }
    let rows = farm.store.coordinators().await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.announced.id, row.is_active)).collect();
    assert_eq!(told, [(id(3), true), (id(1), false), (id(2), false)]);
    farm.store.renounce(id(3)).await.unwrap();
    farm.store.announce(&say(1, None), Duration::ZERO).await.unwrap();
    let rows = farm.store.coordinators().await.unwrap();
    assert_eq!(rows.into_iter().map(|row| row.announced).collect::<Vec<_>>(), [say(1, None)]);
}

#[tokio::test]
async fn a_lane_runs_one_transaction_at_a_time_and_leaves_the_others_alone() {
    let farm = Farm::new().await;
    let job = farm.job(1, 8).await;
    let fence = farm.lease(job.row.id, 0, 4).await;
    let first = farm.store.begin_lane(Lane::Claims, farm.epoch()).await.unwrap();
    let (store, epoch, claim) = (farm.store.clone(), farm.epoch(), fresh(job.row.id, 4, 8));
    let second = tokio::spawn(async move { store.claim(epoch, &[claim]).await.unwrap() });
    assert!(is_blocked(&farm.store, "seedfarm", &second).await);
    let outcome = farm.complete_one(farm.completion(&job, fence, 0..4)).await;
    assert!(outcome.lease_held);
    first.commit().await.unwrap();
    assert!(second.await.unwrap()[0].is_some());
    farm.assert_sound().await;
}

/// Asks until a task is over, or the database says that a connection of this name waits for a lock.
async fn is_blocked<T>(store: &Store, application: &str, task: &tokio::task::JoinHandle<T>) -> bool {
    while !task.is_finished() {
        let blocked: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1
                AND datname = current_database() AND wait_event_type = 'Lock')",
        )
        .bind(application)
        .fetch_one(&store.pool)
        .await
        .unwrap();
        if blocked {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_reign_that_is_dropped_lets_the_next_one_in() {
    let farm = Farm::new().await;
    let first = farm.epoch();
    drop(farm.reign);
    let next = loop {
        match farm.store.take_over().await {
            Ok(reign) => break reign,
            Err(StoreError::Held { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(next.epoch().0, first.0 + 1);
    let claimed = farm.store.claim(next.epoch(), &[fresh(job_id(1), 0, 1)]).await.unwrap();
    assert_eq!(claimed, [None::<LeaseId>]);
}
