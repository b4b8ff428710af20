//! Pictures that recipes start from: fetched once, checked, and handed to the renderer.

use seedfarm_core::recipe::Source;
use seedfarm_core::{ArtifactDigest, RecipeTemplate};
use seedfarm_picture::{Picture, encode_plain};
use seedfarm_proto::v1::FailureClass;

use crate::coordinator::{Coordinator, failure};
use crate::painter::Gate;
use crate::recipes::{grant_of, template};
use crate::worker::{Worker, folder};

fn starting_from(image: ArtifactDigest) -> RecipeTemplate {
    let mut template = template("a");
    template.extras.source = Some(Source { image, strength: 1.0, first_step: 0, mask: None });
    template
}

fn png(side: u32) -> Vec<u8> {
    encode_plain(&Picture::new(side, side, vec![7; 3 * (side * side) as usize]).unwrap()).unwrap()
}

#[tokio::test]
async fn a_named_picture_is_fetched_once_and_handed_to_the_renderer() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let file = png(16);
    let digest = coordinator.shelf.offer(&file, file.clone());
    let (mut session, _) = coordinator.welcome().await;
    session.grant(grant_of(1, 0..3, &[0, 1, 2].map(|_| starting_from(digest)))).await;
    let complete = session.complete().await;
    assert_eq!(complete.failure, None);
    for image in &complete.images {
        assert_eq!(image.warnings, ["(16, 16)"], "what the renderer was told goes with the image");
    }
    assert_eq!(coordinator.shelf.asked(), 1);
}

#[tokio::test]
async fn a_picture_that_cannot_be_had_and_one_that_is_none_are_told_apart() {
    let (mut coordinator, folder) = (Coordinator::start().await, folder());
    let _worker = Worker::start(&coordinator, &folder, &Gate::wide_open());
    let missing = ArtifactDigest::of_bytes(b"nowhere");
    let damaged = coordinator.shelf.offer(b"what was promised", png(8));
    let no_picture = coordinator.shelf.offer(b"text", b"text".to_vec());
    let (mut session, _) = coordinator.welcome().await;
    let cases = [
        (no_picture, FailureClass::Task, "not a PNG"),
        (missing, FailureClass::Environment, "not on the farm"),
        (damaged, FailureClass::Environment, "damaged on its way"),
    ];
    for (lease, (digest, class, words)) in (1..).zip(cases) {
        session.grant(grant_of(lease, 0..1, &[starting_from(digest)])).await;
        let (told, error) = failure(&session.complete().await);
        assert_eq!(told, class, "{error}");
        assert!(error.contains(words) && error.contains(&digest.to_string()), "{error}");
    }
}
