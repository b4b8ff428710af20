//! What the owner of a worker lets it take, and which of its devices rest: read as a stranger's word.

use std::collections::BTreeMap;

use seedfarm_core::ModelManifest;
use seedfarm_core::owner::Acceptance;
use seedfarm_proto::v1;
use tonic::Status;

use super::hello::{manifests, refused};

/// Most devices of which a worker may say that they rest.
const MAX_RESTING: usize = 64;
/// Most characters of a reason that are kept.
const MAX_REASON: usize = 200;

/// Checks what a worker says that it takes. One that says nothing takes everything.
pub(super) fn acceptance(wire: Option<v1::Acceptance>) -> Result<Acceptance, Status> {
    let read = Acceptance::try_from(wire.unwrap_or_default());
    let acceptance = read.map_err(|status| refused(status.message()))?;
    acceptance.check().map_err(|fault| refused(&fault.to_string()))?;
    Ok(acceptance)
}

/// Checks an Update.
pub(super) fn read(update: v1::Update) -> Result<(Acceptance, Vec<ModelManifest>), Status> {
    Ok((acceptance(update.acceptance)?, manifests(&update.model_manifests_json)?))
}

/// The devices that rest, each with its reason as plain text of bounded length. What is over the limit is
/// passed over: a heartbeat is not worth a session.
pub(super) fn resting(wire: Vec<v1::Resting>) -> BTreeMap<u32, String> {
    let plain = |reason: &str| reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    wire.into_iter().take(MAX_RESTING).map(|one| (one.device, plain(&one.reason))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_says_nothing_of_what_it_takes_takes_everything() {
        assert_eq!(acceptance(None).unwrap(), Acceptance::default());
    }

    #[test]
    fn names_that_are_none_and_lists_that_are_too_long_are_refused() {
        let tags = |tags: Vec<String>| acceptance(Some(v1::Acceptance { tags, ..v1::Acceptance::default() }));
        assert!(tags(vec!["pool:night".into()]).unwrap().tags.contains(&"pool:night".parse().unwrap()));
        assert!(tags(vec!["A B".into()]).unwrap_err().message().contains("'A B'"));
        let many = (0..17).map(|n| format!("t{n}")).collect();
        assert!(tags(many).unwrap_err().message().contains("tags lists 17"));
    }

    #[test]
    fn a_reason_to_rest_is_kept_as_a_short_line() {
        let one = v1::Resting { device: 3, reason: format!("hot\n{}", "t".repeat(1000)) };
        let kept = resting(vec![one]);
        assert_eq!(kept[&3], format!("hot{}", "t".repeat(197)));
        assert_eq!(resting(vec![v1::Resting::default(); 1000]).len(), 1);
    }
}
