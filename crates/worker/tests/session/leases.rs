//! Leases in fair weather, and images that fail.

use seedfarm_core::canonical;
use seedfarm_picture::{Check, decode, read_metadata};
use seedfarm_proto::v1::session_request::Message as Said;
use seedfarm_proto::v1::session_response::Message as Told;
use seedfarm_proto::v1::{self, FailureClass};
use seedfarm_worker::WorkerConfig;
use tonic::Status;

use crate::coordinator::{Coordinator, failure, indices, lease_of};
use crate::painter::{Gate, paint};
use crate::recipes::{STEPS, fence, grant, manifest, recipe};
use crate::worker::{Worker, config, folder, outbox_entries, painter};

#[tokio::test]
async fn a_lease_is_rendered_uploaded_completed_and_forgotten_when_it_is_settled() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, hello) = coordinator.welcome().await;
    assert_eq!((hello.devices.len(), hello.held.len()), (1, 0));
    assert_eq!(hello.model_manifests_json, [canonical::to_string(&manifest())]);
    assert_eq!(session.credit().await, v1::Credit { device: 0, leases: 2 });

    session.grant(grant(1, &[(0, "a"), (1, "b"), (2, "c")])).await;
    let complete = session.complete().await;
    assert_eq!((indices(&complete), complete.failure.clone()), (vec![0, 1, 2], None));
    assert_eq!(complete.fingerprint_json, hello.devices[0].fingerprints_json[0]);
    for (image, prompt) in complete.images.iter().zip(["a", "b", "c"]) {
        let (expected, file) = (recipe(image.index, prompt), coordinator.shelf.file(&image.artifact_digest));
        assert_eq!(decode(&file).unwrap(), paint(&expected));
        let metadata = read_metadata(&file).unwrap();
        assert_eq!((&metadata.pixels, &metadata.recipe_check), (&Check::Matches, &Check::Matches));
        assert_eq!(metadata.recipe, Some(Ok(expected.clone())));
        assert_eq!(metadata.model.as_deref(), Some("painter"));
        assert_eq!(image.recipe_digest, expected.digest().to_string());
        assert_eq!(image.pixel_digest, paint(&expected).digest().to_string());
        assert_eq!(image.artifact_bytes, file.len() as u64);
    }
    assert_eq!(outbox_entries(&folder), 1);
    session.settle(&complete).await;
    session.echo().await;
    assert_eq!(outbox_entries(&folder), 0);
}

#[tokio::test]
async fn the_next_lease_is_rendered_while_pictures_of_the_last_are_under_way() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    session.credit().await;
    coordinator.shelf.shut();
    session.grant(grant(1, &[(0, "a")])).await;
    assert_eq!(session.credit().await.leases, 1);
    session.grant(grant(2, &[(1, "b")])).await;
    assert_eq!(session.credit().await.leases, 1);
    assert_eq!(coordinator.shelf.count(), 0);
    coordinator.shelf.open();
    let mut leases = [lease_of(&session.complete().await), lease_of(&session.complete().await)];
    leases.sort_unstable();
    assert_eq!(leases, [1, 2]);
}

#[tokio::test]
async fn a_device_whose_finished_leases_pile_up_is_given_no_more_until_one_is_settled() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    let mut granted = 0;
    let mut completions = Vec::new();
    session.credit().await;
    // Two leases are always out: their credit came before.
    for lease in 1..=4 {
        session.grant(grant(lease, &[(lease as u64, "a")])).await;
        completions.push(session.complete().await);
        granted += 1;
    }
    let credit = session.echo().await.into_iter().filter(|said| matches!(said, Said::Credit(_))).count();
    assert_eq!((granted, credit), (4, 0));
    session.settle(&completions[0]).await;
    assert!(session.credit().await.leases >= 1);
}

#[tokio::test]
async fn an_image_that_fails_by_its_own_fault_spoils_no_other() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let device = seedfarm_worker::RenderDevice { batch: 4, ..painter(&Gate::wide_open()) };
    let _worker = Worker::start_with(config(&coordinator, folder.path()), vec![device]);
    let (mut session, _) = coordinator.welcome().await;
    let images = [(0, "a"), (1, "poison"), (2, "b"), (3, "c"), (4, "d"), (5, "panic"), (6, "e")];
    session.grant(grant(1, &images)).await;
    let complete = session.complete().await;
    assert_eq!(indices(&complete), [0, 2, 3, 4, 6]);
    assert_eq!(failure(&complete), (FailureClass::Task, "poison".into()));
    session.grant(grant(2, &[(7, "panic")])).await;
    let complete = session.complete().await;
    let (class, error) = failure(&complete);
    assert_eq!(class, FailureClass::Task);
    assert!(error.contains("panicked: index out of bounds"), "{error}");
    session.grant(grant(3, &[(8, "f")])).await;
    assert_eq!(indices(&session.complete().await), [8]);
}

#[tokio::test]
async fn a_fault_of_the_device_or_its_surroundings_ends_the_lease_and_the_device_rests() {
    for (prompt, class) in
        [("out of memory", FailureClass::Worker), ("no such weights", FailureClass::Environment)]
    {
        let (mut coordinator, folder) = (Coordinator::start().await, folder());
        let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
        let (mut session, _) = coordinator.welcome().await;
        session.credit().await;
        session.grant(grant(1, &[(0, "a"), (1, prompt), (2, "c")])).await;
        let complete = session.complete().await;
        assert_eq!(indices(&complete), [0]);
        assert_eq!(failure(&complete), (class, prompt.into()));
        let meanwhile = session.echo().await;
        assert!(!meanwhile.iter().any(|said| matches!(said, Said::Credit(_))), "{meanwhile:?}");
    }
}

#[tokio::test]
async fn a_revoked_lease_stops_at_the_next_step_and_delivers_what_it_has() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant(1, &[(0, "a"), (1, "b"), (2, "c")])).await;
    gate.allow(STEPS + 1);
    while session.progress_of(1).await.index == 0 {}
    let revoke = v1::Revoke { fence: Some(fence(1)), reason: "the job was cancelled".into() };
    session.tell(Told::Revoke(revoke)).await;
    session.echo().await;
    gate.allow(1);
    let complete = session.complete().await;
    assert_eq!(indices(&complete), [0]);
    assert_eq!(failure(&complete).0, FailureClass::HandedBack);
}

#[tokio::test]
async fn a_picture_that_the_coordinator_refuses_goes_back_as_the_workers_fault() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    coordinator.shelf.refuse(vec![Status::invalid_argument("the picture is damaged")]);
    session.grant(grant(1, &[(0, "a")])).await;
    let complete = session.complete().await;
    assert!(complete.images.is_empty());
    let (class, error) = failure(&complete);
    assert_eq!(class, FailureClass::Worker);
    assert!(error.contains("the picture is damaged"), "{error}");
}

#[tokio::test]
async fn a_picture_that_cannot_be_taken_now_is_sent_again() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    let refusals = vec![Status::unavailable("starting"), Status::resource_exhausted("busy")];
    coordinator.shelf.refuse(refusals);
    session.grant(grant(1, &[(0, "a")])).await;
    let complete = session.complete().await;
    assert_eq!((indices(&complete), complete.failure), (vec![0], None));
    assert_eq!(coordinator.shelf.count(), 1);
}

#[tokio::test]
async fn a_grant_that_cannot_be_read_is_answered_with_the_reason() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, hello) = coordinator.welcome().await;
    let mut later = grant(1, &[(0, "a")]);
    later.templates_json[0] = later.templates_json[0].replace("\"version\":1", "\"version\":2");
    session.grant(later).await;
    let complete = session.complete().await;
    let (class, error) = failure(&complete);
    assert_eq!(class, FailureClass::Task);
    assert!(error.contains("version 2"), "{error}");
    assert_eq!(complete.fingerprint_json, hello.devices[0].fingerprints_json[0]);
}

#[tokio::test]
async fn numerics_that_the_device_does_not_offer_are_refused() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let (mut session, _) = coordinator.welcome().await;
    let mut fast = grant(1, &[(0, "a")]);
    fast.templates_json[0] = fast.templates_json[0].replace("\"strict\"", "\"fast\"");
    session.grant(fast).await;
    let (class, error) = failure(&session.complete().await);
    assert_eq!(class, FailureClass::Worker);
    assert!(error.contains("fast"), "{error}");
}

#[tokio::test]
async fn two_devices_render_at_the_same_time() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let gates = [Gate::shut(), Gate::shut()];
    let devices = gates.iter().map(painter).collect();
    let _worker = Worker::start_with(config(&coordinator, folder.path()), devices);
    let (mut session, hello) = coordinator.welcome().await;
    assert_eq!(hello.devices.iter().map(|device| device.index).collect::<Vec<_>>(), [0, 1]);
    session.grant(grant(1, &[(0, "a")])).await;
    session.grant(v1::Grant { device: 1, ..grant(2, &[(1, "b")]) }).await;
    gates[0].allow(1);
    session.progress_of(1).await;
    gates[1].allow(1);
    session.progress_of(2).await;
    gates.iter().for_each(|gate| gate.open());
    let mut leases = [lease_of(&session.complete().await), lease_of(&session.complete().await)];
    leases.sort_unstable();
    assert_eq!(leases, [1, 2]);
}

#[tokio::test]
async fn a_full_outbox_keeps_what_fits_and_hands_the_rest_back_as_the_workers_fault() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let config = WorkerConfig { outbox_limit_bytes: 5000, ..config(&coordinator, folder.path()) };
    let _worker = Worker::start_with(config, vec![painter(&Gate::wide_open())]);
    let (mut session, _) = coordinator.welcome().await;
    let images: Vec<(u64, &str)> = (0..8).map(|index| (index, "a")).collect();
    session.grant(grant(1, &images)).await;
    let complete = session.complete().await;
    assert!((1..8).contains(&complete.images.len()), "{} images", complete.images.len());
    let (class, error) = failure(&complete);
    assert_eq!(class, FailureClass::Worker);
    assert!(error.contains("outbox") && error.contains("5000"), "{error}");
}

#[tokio::test]
async fn progress_tells_image_and_step_and_carries_a_picture_where_that_is_wanted() {
    for previews in [false, true] {
        let (mut coordinator, folder) = (Coordinator::start().await, folder());
        let config = WorkerConfig { previews, ..config(&coordinator, folder.path()) };
        let _worker = Worker::start_with(config, vec![painter(&Gate::wide_open())]);
        let (mut session, _) = coordinator.welcome().await;
        session.grant(grant(1, &[(4, "a")])).await;
        let progress = session.progress_of(1).await;
        assert_eq!((progress.index, progress.step, progress.steps), (4, 1, 4));
        let preview = progress.preview_png.map(|png| decode(&png).unwrap());
        assert_eq!(preview, previews.then(|| paint(&recipe(4, "a"))));
    }
}

#[tokio::test]
async fn leases_beyond_what_was_asked_for_go_back_unrendered() {
    let (mut coordinator, folder, gate) = (Coordinator::start().await, folder(), Gate::shut());
    let _worker = Worker::start(&coordinator, &folder, &gate);
    let (mut session, _) = coordinator.welcome().await;
    for lease in 1..=6 {
        session.grant(grant(lease, &[(lease as u64, "a")])).await;
    }
    let refused = session.complete().await;
    assert_eq!(failure(&refused).0, FailureClass::HandedBack);
    gate.open();
    let rendered = session.find(|said| match said {
        Said::Complete(complete) if complete.failure.is_none() => Some(indices(complete)),
        _ => None,
    });
    assert_eq!(rendered.await, [1]);
}
