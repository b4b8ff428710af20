//! Broken streams, killed workers, refused tokens.

use seedfarm_proto::v1::session_request::Message as Said;
use seedfarm_proto::v1::{Complete, FailureClass};
use seedfarm_worker::{WorkerConfig, WorkerError};

use crate::coordinator::{Coordinator, failure, indices};
use crate::painter::Gate;
use crate::recipes::{STEPS, fence, grant};
use crate::worker::{Worker, config, folder, outbox_entries, painter};

#[tokio::test]
async fn a_broken_stream_is_opened_again_with_the_leases_still_held() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, first) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a")])).await;
    gate.allow(1);
    session.progress_of(1).await;
    drop(session);
    let (mut session, second) = coordinator.welcome().await;
    assert_eq!((second.worker_id, second.held), (first.worker_id, vec![fence(1)]));
    assert_eq!(session.credit().await.leases, 1);
    gate.open();
    assert_eq!(indices(&session.complete().await), [0]);
}

#[tokio::test]
async fn a_completion_that_was_not_settled_is_sent_again_on_the_next_stream() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a"), (1, "b")])).await;
    let complete = session.complete().await;
    drop(session);
    let (mut session, hello) = coordinator.welcome().await;
    assert_eq!(hello.held, [fence(1)]);
    let again = session.complete().await;
    assert_eq!(again, complete);
    session.settle(&again).await;
    session.echo().await;
    drop(session);
    let (_, hello) = coordinator.welcome().await;
    assert_eq!(hello.held, []);
}

#[tokio::test]
async fn what_is_rendered_during_an_outage_is_delivered_after_it() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a")])).await;
    session.grant(grant(2, &[(1, "b")])).await;
    session.echo().await;
    drop(session);
    // The worker has opened a stream, and nobody welcomes it.
    let mut silent = coordinator.session().await;
    assert_eq!(silent.hello().await.held.len(), 2);
    gate.open();
    coordinator.shelf.holds(2).await;
    silent.welcome().await;
    let mut done = [indices(&silent.complete().await), indices(&silent.complete().await)];
    done.sort_unstable();
    assert_eq!(done, [[0], [1]]);
}

#[tokio::test]
async fn what_a_killed_worker_rendered_is_delivered_by_its_next_run() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, first) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a"), (1, "b")])).await;
    gate.allow(STEPS + 1);
    coordinator.shelf.holds(1).await;
    while session.progress_of(1).await.index == 0 {}
    worker.kill().await;

    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, second) = coordinator.welcome().await;
    assert_eq!((second.worker_id, second.held), (first.worker_id, vec![fence(1)]));
    let complete = session.complete().await;
    assert_eq!(indices(&complete), [0]);
    assert_eq!(failure(&complete).0, FailureClass::HandedBack);
    assert!(!complete.fingerprint_json.is_empty());
    session.settle(&complete).await;
    session.echo().await;
    assert_eq!(outbox_entries(&folder), 0);
}

#[tokio::test]
async fn a_completion_that_a_killed_worker_did_not_see_settled_is_uploaded_and_sent_again() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a")])).await;
    let complete = session.complete().await;
    worker.kill().await;
    drop(coordinator);

    let mut coordinator = Coordinator::start().await;
    coordinator.shelf.shut();
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, hello) = coordinator.welcome().await;
    assert_eq!(hello.held, [fence(1)]);
    let before_the_upload = session.echo().await;
    assert!(!before_the_upload.iter().any(|said| matches!(said, Said::Complete(_))));
    coordinator.shelf.open();
    assert!(!complete.log.is_empty());
    let without_log = Complete { log: String::new(), ..complete };
    assert_eq!(session.complete().await, without_log);
    assert_eq!(coordinator.shelf.count(), 1);
}

#[tokio::test]
async fn heartbeats_name_every_lease_until_it_is_settled() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a")])).await;
    let complete = session.complete().await;
    let heartbeat = |said: &Said| match said {
        Said::Heartbeat(heartbeat) => Some(heartbeat.held.clone()),
        _ => None,
    };
    assert_eq!(session.find(heartbeat).await, [fence(1)]);
    session.settle(&complete).await;
    session.echo().await;
    assert_eq!(session.find(heartbeat).await, []);
}

#[tokio::test]
async fn a_wrong_token_ends_the_worker_with_the_coordinators_words() {
    let (coordinator, folder) = (Coordinator::start().await, folder());
    let config = WorkerConfig { token: "guess".into(), ..config(&coordinator, folder.path()) };
    let worker = Worker::start_with(config, vec![painter(&Gate::wide_open())]);
    let error = worker.end().await.unwrap_err();
    assert!(matches!(error, WorkerError::Refused { .. }));
    assert!(error.to_string().contains("not the farm's worker token"), "{error}");
}

#[tokio::test]
async fn a_second_worker_on_the_same_data_folder_is_refused() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    coordinator.welcome().await;
    let second = Worker::start(&coordinator, &folder, &Gate::wide_open());
    assert!(matches!(second.end().await, Err(WorkerError::DataFolderInUse { .. })));
}
