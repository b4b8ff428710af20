//! Coordinators that are killed, stopped and replaced, and a database that is restarted under them.

use seedfarm_coordinator::{CoordinatorError, serve};
use seedfarm_core::completion::Reception;
use seedfarm_proto::error;
use seedfarm_proto::v1;
use seedfarm_store::StoreError;
use seedfarm_store::private::{Durability, PrivateCluster, PrivateConfig};
use sqlx::{ConnectOptions, Connection};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::pixels;
use crate::replicas::Rival;
use crate::support::{CALM, Farm, manifest, spec};
use crate::worker::{Worker, expected_pixels, hello};

/// Breaks the connections of one application name, as a network or a restart would.
async fn cut(farm: &Farm, application: &str) {
    let mut admin = farm.options.clone().application_name("the test").connect().await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = $1";
    sqlx::query(cut).bind(application.to_owned()).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
}

#[tokio::test]
async fn a_coordinator_killed_mid_job_goes_on_where_it_was_and_counts_everything_once() {
    let mut farm = Farm::start(CALM).await;
    let job = farm.submit(6).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let (first, second) = (worker.grant().await, worker.grant().await);
    worker.complete(&first).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    farm.kill();
    farm.begin().await;
    let held = vec![second.fence.unwrap()];
    let mut worker = Worker::greet(&farm, v1::Hello { held, ..hello(1) }).await;
    assert_eq!(worker.welcome().await.epoch, 2);
    worker.complete(&first).await;
    assert_eq!(worker.settled().await, [Reception::Repeated], "what was stored before the kill is known");
    worker.complete(&second).await;
    assert_eq!(worker.settled().await, [Reception::Accepted], "a lease outlives its coordinator");
    worker.credit(2).await;
    tokio::spawn(worker.work());
    let job = farm.finished(&job.id).await;
    assert_eq!((job.state(), job.done, job.failed), (v1::JobState::Finished, 6, 0));
    let images = farm.images(&job.id).await;
    assert_eq!(pixels(&images), expected_pixels(&manifest("tiny"), &spec(&["a red apple"], 6)));
    farm.is_consistent().await;
}

#[tokio::test]
async fn a_coordinator_that_stops_tells_its_streams_and_lets_another_reign_at_once() {
    let mut farm = Farm::start(CALM).await;
    let job = farm.submit(2).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    worker.grant().await;
    let mut watch = farm.watch(&job.id).await;
    watch.message().await.unwrap().unwrap();
    let (stopped, told, ended) = tokio::join!(farm.stop(), worker.try_next(), async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    stopped.unwrap();
    assert_eq!(error::reason_of(&told.unwrap_err()).as_deref(), Some("STOPPING"));
    assert_eq!(error::reason_of(&ended.unwrap_err()).as_deref(), Some("STOPPING"));
    farm.begin().await;
    let held = grant.fence.into_iter().collect();
    let mut worker = Worker::greet(&farm, v1::Hello { held, ..hello(1) }).await;
    worker.welcome().await;
    worker.complete(&grant).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
}

#[tokio::test]
async fn a_second_coordinator_is_refused_while_the_first_reigns() {
    let farm = Farm::start(CALM).await;
    farm.submit(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = serve(farm.config(listener).await, CancellationToken::new()).await;
    let refused = second.unwrap_err();
    assert!(
        matches!(refused, CoordinatorError::Store { source: StoreError::Held { .. }, .. }),
        "{refused:?}"
    );
    farm.submit(1).await;
}

#[tokio::test]
async fn a_coordinator_steps_down_when_another_has_taken_over() {
    let mut farm = Farm::start(CALM).await;
    let job = farm.submit(2).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    worker.grant().await;
    let complete = worker.render(&grant).await;
    let rival = Rival::depose(&farm).await;
    worker.report_in_vain(complete).await;
    let ended = farm.ended().await;
    assert!(matches!(ended, Err(CoordinatorError::TakenOver { .. })), "{ended:?}");
    let row = farm.store().await.job(job.id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.done, 0, "a deposed coordinator stores nothing");
    rival.leave().await;
}

#[tokio::test]
async fn a_lost_lock_is_taken_again_and_leases_of_the_old_epoch_count() {
    let farm = Farm::start(CALM).await;
    let job = farm.submit(3).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let grant = worker.grant().await;
    let ahead = worker.grant().await;
    cut(&farm, "seedfarm-reign").await;
    worker.complete(&grant).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    worker.complete(&ahead).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    worker.credit(1).await;
    tokio::spawn(worker.work());
    assert_eq!(farm.finished(&job.id).await.done, 3);
    farm.is_consistent().await;
}

#[tokio::test]
async fn a_database_restarted_under_the_coordinator_loses_and_doubles_nothing() {
    let data = tempfile::tempdir().unwrap();
    let config =
        PrivateConfig { data_dir: data.path().to_owned(), pg_bin: None, durability: Durability::Full };
    let cluster = PrivateCluster::start(config.clone()).await.unwrap();
    let mut farm = Farm::on(cluster.options(), CALM).await;
    let job = farm.submit(8).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let (first, second) = (worker.grant().await, worker.grant().await);
    worker.complete(&first).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    cluster.stop().await.unwrap();
    worker.complete(&second).await;
    worker.credit(2).await;
    let cluster = PrivateCluster::start(config).await.unwrap();
    tokio::spawn(worker.work());
    let job = farm.finished(&job.id).await;
    assert_eq!((job.state(), job.done, job.failed), (v1::JobState::Finished, 8, 0));
    let images = farm.images(&job.id).await;
    assert_eq!(pixels(&images), expected_pixels(&manifest("tiny"), &spec(&["a red apple"], 8)));
    farm.is_consistent().await;
    farm.stop().await.unwrap();
    cluster.stop().await.unwrap();
}
