//! Logs of attempts, and when they go.

use seedfarm_core::{Attempt, LeaseId};

use super::{Farm, job_id, range, worker};
use crate::{AttemptLog, LogFilter};

fn log(lease: i64, outcome: &str) -> AttemptLog {
    AttemptLog {
        lease: LeaseId(lease),
        job: job_id(1),
        range: range(0, 4),
        attempt: Attempt(1),
        worker: worker(1),
        device: 0,
        outcome: outcome.into(),
        text: format!("lease {lease}"),
    }
}

async fn kept(farm: &Farm) -> Vec<i64> {
    let rows = farm.store.logs(&LogFilter::default(), 100).await.unwrap();
    rows.into_iter().map(|row| row.log.lease.0).collect()
}

async fn make_older(farm: &Farm, age: &str) {
    let age = sqlx::AssertSqlSafe(format!("UPDATE attempt_logs SET created_at = now() - interval '{age}'"));
    sqlx::query(age).execute(&farm.store.pool).await.unwrap();
}

#[tokio::test]
async fn a_lease_has_one_log_and_the_first_stays() {
    let farm = Farm::new().await;
    farm.store.put_logs(&[log(1, "completed"), log(2, "worker")]).await.unwrap();
    farm.store.put_logs(&[log(2, "task")]).await.unwrap();
    farm.store.put_logs(&[]).await.unwrap();
    let rows = farm.store.logs(&LogFilter::default(), 100).await.unwrap();
    let logs: Vec<_> = rows.into_iter().map(|row| row.log).collect();
    assert_eq!(logs, [log(2, "worker"), log(1, "completed")]);
}

#[tokio::test]
async fn logs_of_attempts_that_ended_well_go_after_a_day_and_those_of_failures_after_a_month() {
    let farm = Farm::new().await;
    farm.store.put_logs(&[log(1, "completed"), log(2, "handed_back"), log(3, "task")]).await.unwrap();
    make_older(&farm, "23 hours").await;
    assert!(!farm.store.remove_old_logs().await.unwrap());
    assert_eq!(kept(&farm).await, [3, 2, 1]);
    make_older(&farm, "25 hours").await;
    farm.store.remove_old_logs().await.unwrap();
    assert_eq!(kept(&farm).await, [3]);
    make_older(&farm, "31 days").await;
    farm.store.remove_old_logs().await.unwrap();
    assert_eq!(kept(&farm).await, [0; 0]);
}

#[tokio::test]
async fn of_attempts_that_ended_well_the_newest_ten_thousand_stay() {
    let farm = Farm::new().await;
    let logs: Vec<AttemptLog> = (1..=10_003).map(|lease| log(lease, "completed")).collect();
    farm.store.put_logs(&[log(20_000, "task")]).await.unwrap();
    farm.store.put_logs(&logs).await.unwrap();
    farm.store.remove_old_logs().await.unwrap();
    assert_eq!(farm.count("attempt_logs").await, 10_001);
    let old = LogFilter { before: Some(6), ..LogFilter::default() };
    let left = farm.store.logs(&old, 100).await.unwrap();
    assert!(left.iter().all(|row| row.log.lease.0 > 3), "{left:?}");
}
