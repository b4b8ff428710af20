//! Keeping what a worker tells of an attempt: a stranger's text, for people, beside the lanes.

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::{WorkerId, limits};
use seedfarm_store::AttemptLog;

use super::Leased;
use crate::farm::Farm;

/// Hands a log to the writer. That of a lease which is gone is not kept, nor is what comes while the writer is
/// behind.
pub(super) fn keep(
    farm: &Farm,
    worker: WorkerId,
    fence: Fence,
    leased: &Leased,
    class: Option<FailureClass>,
    told: &str,
) {
    let Some(device) = leased.device.filter(|_| !told.is_empty()) else { return };
    let log = AttemptLog {
        lease: fence.lease,
        job: leased.job.id,
        range: leased.range,
        attempt: fence.attempt,
        worker,
        device,
        outcome: class.map_or("completed", FailureClass::as_str).to_owned(),
        text: plain(told),
    };
    if farm.logs.try_send(log).is_err() {
        tracing::debug!(worker.id = %worker, lease.id = %fence.lease, "a log of an attempt is dropped");
    }
}

/// A text that does nothing to the terminal on which it is shown, cut to the limit.
fn plain(text: &str) -> String {
    let cut = text.floor_char_boundary(limits::MAX_LOG_BYTES);
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text[..cut].chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_cannot_speak_to_a_terminal_and_is_cut_between_characters() {
        assert_eq!(plain("a\nb\u{1b}[2J\0"), "a\nb\u{fffd}[2J\u{fffd}");
        assert!(plain(&"é".repeat(limits::MAX_LOG_BYTES)).len() <= limits::MAX_LOG_BYTES);
    }
}
