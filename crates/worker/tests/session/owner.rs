//! The owner's word: pausing, limits edited while the worker runs, work that is not wanted.

use std::fs;
use std::path::PathBuf;

use seedfarm_proto::v1::session_request::Message as Said;
use seedfarm_proto::v1::{self, FailureClass};
use seedfarm_worker::WorkerError;
use seedfarm_worker::owner::OwnerState;
use tempfile::TempDir;

use crate::coordinator::{Coordinator, Session, failure, indices, soon};
use crate::painter::Gate;
use crate::recipes::{STEPS, grant};
use crate::worker::{Worker, folder};

fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join("worker").join(name)
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::create_dir_all(folder.path().join("worker")).unwrap();
    fs::write(file(folder, name), text).unwrap();
}

async fn resting(session: &mut Session, wanted: bool) -> Option<String> {
    let rests = |said: &Said| match said {
        Said::Heartbeat(heartbeat) if heartbeat.resting.is_empty() != wanted => {
            Some(heartbeat.resting.first().map(|one| one.reason.clone()))
        }
        _ => None,
    };
    session.find(rests).await
}

async fn update(session: &mut Session) -> v1::Update {
    session
        .find(|said| match said {
            Said::Update(update) => Some(update.clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_pause_file_stops_the_image_in_the_making_frees_the_device_and_takes_no_work() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.credit().await;
    session.grant(grant(1, &[(0, "a"), (1, "b")])).await;
    session.grant(grant(2, &[(2, "c")])).await;
    gate.allow(STEPS + 1);
    while session.progress_of(1).await.index == 0 {}

    write(&folder, "pause", "");
    let reason = resting(&mut session, true).await.unwrap();
    assert!(reason.contains("pause file"), "{reason}");
    // One more step, and no image after it.
    gate.allow(1);
    let first = session.complete().await;
    assert_eq!((indices(&first), failure(&first)), (vec![0], (FailureClass::HandedBack, reason.clone())));
    let second = session.complete().await;
    assert_eq!((indices(&second), failure(&second)), (vec![], (FailureClass::HandedBack, reason.clone())));
    gate.forgotten().await;

    // What was granted before the coordinator knew comes back, and no credit is given.
    session.grant(grant(3, &[(3, "d")])).await;
    assert_eq!(failure(&session.complete().await), (FailureClass::HandedBack, reason));
    let meanwhile = session.echo().await;
    assert!(!meanwhile.iter().any(|said| matches!(said, Said::Credit(_))), "{meanwhile:?}");

    gate.open();
    fs::remove_file(file(&folder, "pause")).unwrap();
    assert_eq!(resting(&mut session, false).await, None);
    assert_eq!(session.credit().await.leases, 2);
    session.grant(grant(4, &[(3, "d")])).await;
    assert_eq!(indices(&session.complete().await), [3]);
}

#[tokio::test]
async fn a_device_that_an_edit_takes_away_finishes_its_image_and_rests() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a"), (1, "b")])).await;
    gate.allow(1);
    session.progress_of(1).await;
    write(&folder, "owner.toml", "devices = [\"cuda:9\"]\n");
    let reason = resting(&mut session, true).await.unwrap();
    gate.open();
    let complete = session.complete().await;
    assert_eq!((indices(&complete), failure(&complete)), (vec![0], (FailureClass::HandedBack, reason)));
    gate.forgotten().await;
}

#[tokio::test]
async fn an_edit_takes_effect_while_the_worker_runs_and_a_bad_one_keeps_the_old_limits() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    write(&folder, "owner.toml", "tags = [\"pool:night\"]\n");
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, hello) = coordinator.welcome().await;
    assert_eq!(hello.acceptance.unwrap().tags, ["pool:night"]);
    assert_eq!(hello.model_manifests_json.len(), 1);
    session.grant(grant(1, &[(0, "a")])).await;
    assert_eq!(session.complete().await.failure, None);

    write(&folder, "owner.toml", "[jobs]\nmax_steps = 1\nrefuse = [\"bulk\"]\n");
    let acceptance = update(&mut session).await.acceptance.unwrap();
    assert_eq!((acceptance.max_steps, acceptance.tags.len()), (Some(1), 0));
    assert_eq!(acceptance.refused().collect::<Vec<_>>(), [v1::Feature::Bulk]);
    session.grant(grant(2, &[(1, "a")])).await;
    let (class, error) = failure(&session.complete().await);
    assert_eq!(class, FailureClass::HandedBack);
    assert!(error.contains("more than the 1 that the worker's owner allows"), "{error}");

    write(&folder, "owner.toml", "[jobs]\nmax_stepz = 1000\n");
    let told = async {
        loop {
            let fault = OwnerState::read(folder.path()).and_then(|state| state.fault);
            if let Some(fault) = fault {
                return fault;
            }
            tokio::task::yield_now().await;
        }
    };
    let fault = soon("the fault", told).await;
    assert!(fault.contains("line 2") && fault.contains("max_stepz"), "{fault}");
    session.grant(grant(3, &[(1, "a")])).await;
    assert_eq!(failure(&session.complete().await).0, FailureClass::HandedBack);

    write(&folder, "owner.toml", "[models]\nrefuse = [\"paint*\"]\n");
    assert!(update(&mut session).await.model_manifests_json.is_empty());
    session.grant(grant(4, &[(1, "a")])).await;
    let (class, error) = failure(&session.complete().await);
    assert_eq!((class, error.contains("refuses the model 'painter'")), (FailureClass::HandedBack, true));

    write(&folder, "owner.toml", "");
    assert_eq!(update(&mut session).await.model_manifests_json.len(), 1);
    session.grant(grant(5, &[(1, "a")])).await;
    assert_eq!(session.complete().await.failure, None);
    assert_eq!(OwnerState::read(folder.path()).unwrap().fault, None);
}

#[tokio::test]
async fn a_worker_that_cannot_read_its_owners_limits_does_not_start() {
    let (coordinator, folder) = (Coordinator::start().await, folder());
    write(&folder, "owner.toml", "hours = 5\n");
    let error = Worker::start(&coordinator, &folder, &Gate::wide_open()).end().await.unwrap_err();
    assert!(matches!(error, WorkerError::Limits(_)) && error.to_string().contains("line 1"), "{error}");
}

#[tokio::test]
async fn a_worker_that_rests_from_its_start_says_so_and_its_state_goes_with_it() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    write(&folder, "pause", "");
    let worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    assert!(resting(&mut session, true).await.unwrap().contains("pause file"));
    let state = OwnerState::read(folder.path()).unwrap();
    assert_eq!((state.devices[0].device.as_str(), state.devices[0].name.as_str()), ("cpu", "easel"));
    assert!(state.devices[0].resting.as_ref().unwrap().contains("pause file"));
    worker.shutdown.cancel();
    drop(session);
    worker.end().await.unwrap();
    assert_eq!(OwnerState::read(folder.path()), None);
}
