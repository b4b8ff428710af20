//! What worker and coordinator must agree on, and what a worker tells of its attempts.

use seedfarm_proto::v1::FailureClass;
use seedfarm_proto::v1::session_response::Message as Told;
use seedfarm_proto::{PROTOCOL, v1};
use seedfarm_worker::WorkerError;

use crate::coordinator::{Coordinator, failure};
use crate::painter::Gate;
use crate::recipes::grant;
use crate::worker::{Worker, folder};

#[tokio::test]
async fn a_coordinator_of_another_protocol_ends_the_worker_with_both_numbers() {
    for (oldest, newest) in [(0, 0), (PROTOCOL + 1, PROTOCOL + 2)] {
        let (mut coordinator, folder) = (Coordinator::start().await, folder());
        let worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
        let mut session = coordinator.session().await;
        assert_eq!(session.hello().await.protocol, PROTOCOL);
        let welcome = v1::Welcome { protocol: newest, oldest_protocol: oldest, ..v1::Welcome::default() };
        session.tell(Told::Welcome(welcome)).await;
        let error = worker.end().await.unwrap_err();
        assert!(
            matches!(error, WorkerError::Protocol { oldest: o, newest: n } if (o, n) == (oldest, newest))
        );
    }
}

#[tokio::test]
async fn a_process_keeps_its_instance_and_another_has_another() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (session, first) = coordinator.welcome().await;
    drop(session);
    let (session, again) = coordinator.welcome().await;
    assert_eq!(first.instance, again.instance);
    worker.kill().await;
    drop(session);
    let _next = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (_session, next) = coordinator.welcome().await;
    assert_eq!(next.worker_id, first.worker_id);
    assert_ne!(next.instance, first.instance);
}

#[tokio::test]
async fn a_completion_tells_what_happened_and_no_prompt() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(7, &[(3, "a prompt that nobody else reads")])).await;
    let complete = session.complete().await;
    for part in ["lease 7 taken: 1 images from 3", "image 3 rendered in", "ended after"] {
        assert!(complete.log.contains(part), "{part}: {}", complete.log);
    }
    assert!(!complete.log.contains("nobody else reads"), "{}", complete.log);
}

#[tokio::test]
async fn a_revocation_and_what_came_of_it_stand_in_the_log() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let gate = Gate::shut();
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(7, &[(0, "a")])).await;
    let revoke = v1::Revoke { fence: Some(crate::recipes::fence(7)), reason: "it was cancelled".into() };
    session.tell(Told::Revoke(revoke)).await;
    session.echo().await;
    gate.open();
    let complete = session.complete().await;
    assert_eq!(failure(&complete).0, FailureClass::HandedBack);
    assert!(complete.log.contains("revoked: it was cancelled"), "{}", complete.log);
}
