//! Workers that are told to leave.

use std::time::Duration;

use seedfarm_proto::v1;
use seedfarm_proto::v1::FailureClass;
use seedfarm_proto::v1::session_response::Message as Told;
use seedfarm_worker::WorkerConfig;

use crate::coordinator::{Coordinator, failure, indices, lease_of};
use crate::painter::Gate;
use crate::recipes::grant;
use crate::worker::{Worker, config, folder, outbox_entries, painter};

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_its_image_and_hands_back_the_rest() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a"), (1, "b")])).await;
    session.grant(grant(2, &[(2, "c")])).await;
    gate.allow(1);
    session.progress_of(1).await;
    worker.shutdown.cancel();
    session.drain().await;
    gate.open();
    let mut completions = [session.complete().await, session.complete().await];
    completions.sort_by_key(lease_of);
    assert_eq!([indices(&completions[0]), indices(&completions[1])], [vec![0], vec![]]);
    for complete in &completions {
        assert_eq!(failure(complete).0, FailureClass::HandedBack);
        session.settle(complete).await;
    }
    worker.end().await.unwrap();
    assert!(session.next().await.is_none());
    assert_eq!(outbox_entries(&folder), 0);
}

#[tokio::test]
async fn a_worker_whose_image_takes_too_long_leaves_at_its_deadline() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let deadline = Duration::from_millis(30);
    let config = WorkerConfig { shutdown_deadline: deadline, ..config(&coordinator, folder.path()) };
    let worker = Worker::start_with(config, vec![painter(&gate)]);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a")])).await;
    gate.allow(1);
    session.progress_of(1).await;
    worker.shutdown.cancel();
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_drained_worker_finishes_all_that_it_holds_and_leaves() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a"), (1, "b")])).await;
    session.grant(grant(2, &[(2, "c")])).await;
    session.tell(Told::Drain(v1::Drain {})).await;
    session.drain().await;
    gate.open();
    for expected in [vec![0, 1], vec![2]] {
        let complete = session.complete().await;
        assert_eq!((indices(&complete), &complete.failure), (expected, &None));
        session.settle(&complete).await;
    }
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_worker_without_a_coordinator_leaves_at_once_and_keeps_what_it_has() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a")])).await;
    session.complete().await;
    drop(session);
    // The stream that follows is never welcomed.
    let _silent = coordinator.session().await;
    worker.shutdown.cancel();
    worker.end().await.unwrap();
    assert_eq!(outbox_entries(&folder), 1);
}
