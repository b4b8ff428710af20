//! Several coordinators on one database: one is active, the others answer what reads.

use seedfarm_core::completion::Reception;
use seedfarm_proto::error;
use seedfarm_proto::v1;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::control::pixels;
use crate::support::{CALM, Farm, manifest, spec, unique, within};
use crate::worker::{Worker, expected_pixels, hello};

/// The lock, as `crates/store` has it.
const LOCK: i64 = i64::from_be_bytes(*b"seedfarm");

/// Another coordinator, as far as the database can tell, which shows no pulse.
pub struct Rival(PgConnection);

impl Rival {
    /// Takes the lock away from whoever holds it, and raises the epoch.
    pub async fn depose(farm: &Farm) -> Self {
        let options = farm.options.clone().application_name("a rival");
        let connect = || options.connect();
        let (mut rival, mut admin) = (connect().await.unwrap(), connect().await.unwrap());
        let queued = tokio::spawn(async move {
            sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut rival).await.unwrap();
            rival
        });
        let waits = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND a.application_name = 'a rival' AND a.datname = current_database())";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut admin).await.unwrap() {
            tokio::task::yield_now().await;
        }
        let end = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
                AND a.application_name = 'seedfarm-reign'";
        sqlx::query(end).execute(&mut admin).await.unwrap();
        let mut rival = within(queued).await.unwrap();
        sqlx::query("UPDATE reign SET epoch = epoch + 1").execute(&mut rival).await.unwrap();
        admin.close().await.unwrap();
        Self(rival)
    }

    /// Lets the lock go, if nobody has ended it before.
    pub async fn leave(self) {
        let _ = self.0.close().await;
    }
}

async fn submit(farm: &Farm) -> Result<v1::SubmitJobResponse, Status> {
    let request = seedfarm_proto::convert::submission(spec(&["a red apple"], 1), "tiny".into(), unique());
    farm.jobs().await.submit_job(request).await.map(tonic::Response::into_inner)
}

async fn takes_workers(farm: &Farm) -> bool {
    let mut health = HealthClient::new(farm.channel().await);
    let service = "seedfarm.v1.WorkerService".to_owned();
    let answer = health.check(HealthCheckRequest { service }).await.unwrap().into_inner();
    answer.status() == ServingStatus::Serving
}

fn is_active(status: &v1::GetStatusResponse) -> bool {
    status.role() == v1::CoordinatorRole::Active
}

#[tokio::test]
async fn a_standby_answers_what_reads_and_follows_a_job_to_its_end() {
    let farm = Farm::start_replica(CALM).await;
    let job = farm.submit(2).await;
    let standby = farm.replica().await;
    let mut seen = standby.watch(&job.id).await;
    assert_eq!(within(seen.message()).await.unwrap().unwrap().job.unwrap().done, 0);
    let worker = Worker::connect(&farm, 1).await;
    tokio::spawn(worker.work());
    let last = loop {
        let job = within(seen.message()).await.unwrap().unwrap().job.unwrap();
        if job.state() == v1::JobState::Finished {
            break job;
        }
    };
    assert_eq!(last.done, 2);
    let images = standby.images(&job.id).await;
    assert_eq!(images, farm.images(&job.id).await);
    let request = v1::FetchArtifactRequest { artifact_digest: images[0].artifact_digest.clone() };
    let mut file = standby.jobs().await.fetch_artifact(request).await.unwrap().into_inner();
    assert!(within(file.message()).await.unwrap().is_some());
    let models = standby.models().await.list_models(v1::ListModelsRequest {}).await.unwrap().into_inner();
    assert_eq!(models.models.len(), 1);
    let workers = standby.operator().await.list_workers(v1::ListWorkersRequest {}).await.unwrap();
    assert!(workers.into_inner().workers[0].connected, "the active one noted the worker just now");
}

#[tokio::test]
async fn a_standby_refuses_work_and_says_where_the_active_one_is() {
    let farm = Farm::start_replica(CALM).await;
    let standby = farm.replica().await;
    let address = farm.address();
    standby.until(|status| status.coordinators.iter().any(|one| one.address == address)).await;
    let refused = loop {
        let refused = submit(&standby).await.unwrap_err();
        if refused.get_error_details().error_info().unwrap().metadata.contains_key("active") {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(error::reason_of(&refused).as_deref(), Some("NOT_ACTIVE"));
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["active"], address);
    assert!(refused.message().contains(&address) && error::retry_after(&refused).is_some());
    let session = Worker::refused(&standby, hello(1)).await;
    assert_eq!(error::reason_of(&session).as_deref(), Some("NOT_ACTIVE"));
    assert_eq!((takes_workers(&farm).await, takes_workers(&standby).await), (true, false));
    let status = standby.status().await;
    assert_eq!((status.role(), status.epoch), (v1::CoordinatorRole::Standby, farm.status().await.epoch));
}

#[tokio::test]
async fn a_standby_takes_over_from_a_killed_coordinator_and_counts_everything_once() {
    let mut farm = Farm::start_replica(CALM).await;
    let standby = farm.replica().await;
    let job = farm.submit(6).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let (first, second) = (worker.grant().await, worker.grant().await);
    worker.complete(&first).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    farm.kill();
    standby.until(is_active).await;
    let held = vec![second.fence.unwrap()];
    let mut worker = Worker::greet(&standby, v1::Hello { held, ..hello(1) }).await;
    worker.welcome().await;
    worker.complete(&first).await;
    assert_eq!(worker.settled().await, [Reception::Repeated]);
    worker.complete(&second).await;
    assert_eq!(worker.settled().await, [Reception::Accepted], "a lease outlives its coordinator");
    worker.credit(2).await;
    tokio::spawn(worker.work());
    assert_eq!(standby.finished(&job.id).await.done, 6);
    let images = standby.images(&job.id).await;
    assert_eq!(pixels(&images), expected_pixels(&manifest("tiny"), &spec(&["a red apple"], 6)));
    standby.is_consistent().await;
}

#[tokio::test]
async fn a_coordinator_told_to_stop_hands_over_and_is_forgotten() {
    let mut farm = Farm::start_replica(CALM).await;
    let standby = farm.replica().await;
    farm.until(|status| status.coordinators.len() == 2).await;
    farm.stop().await.unwrap();
    standby.until(|status| is_active(status) && status.coordinators.len() == 1).await;
    submit(&standby).await.unwrap();
}

#[tokio::test]
async fn a_deposed_coordinator_writes_nothing_stands_by_and_may_come_back() {
    let farm = Farm::start_replica(CALM).await;
    let job = farm.submit(2).await;
    let mut worker = Worker::connect(&farm, 1).await;
    let (grant, _) = (worker.grant().await, worker.grant().await);
    let before = farm.status().await.epoch;
    let complete = worker.render(&grant).await;
    let rival = Rival::depose(&farm).await;
    worker.report_in_vain(complete).await;
    let told = loop {
        match worker.try_next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(error::reason_of(&told.unwrap_err()).as_deref(), Some("STOPPING"));
    let row = farm.store().await.job(job.id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.done, 0, "a deposed coordinator stores nothing");
    rival.leave().await;
    farm.until(|status| is_active(status) && status.epoch == before + 2).await;
    let held = grant.fence.into_iter().collect();
    let mut worker = Worker::greet(&farm, v1::Hello { held, ..hello(1) }).await;
    worker.welcome().await;
    worker.complete(&grant).await;
    assert_eq!(worker.settled().await, [Reception::Accepted]);
    farm.is_consistent().await;
}

#[tokio::test]
async fn a_holder_that_shows_no_pulse_is_ended_by_a_standby() {
    let farm = Farm::start_replica(CALM).await;
    let before = farm.status().await.epoch;
    let _silent = Rival::depose(&farm).await;
    farm.until(|status| is_active(status) && status.epoch == before + 2).await;
    submit(&farm).await.unwrap();
}
