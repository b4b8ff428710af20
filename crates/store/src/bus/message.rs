//! What travels through Redis: who sent it, about which job, and the payload.
//!
//! ```text
//! 8 bytes origin | 16 bytes job id | payload     an event
//! 8 bytes origin                                 the origin lost events: everyone missed some
//! ```

use std::sync::Arc;

use seedfarm_core::id::JobId;
use uuid::Uuid;

/// The channel. Its version changes with the layout above.
pub(super) const CHANNEL: &str = "seedfarm.events.v1";

/// Marks the messages of one bus, so that it passes over its own.
pub(super) type Origin = [u8; 8];

/// A message from another bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Event { job: JobId, payload: &'a [u8] },
    Missed,
}

pub(super) fn event(origin: Origin, job: JobId, payload: &[u8]) -> Vec<u8> {
    [&origin, job.as_uuid().as_bytes().as_slice(), payload].concat()
}

pub(super) fn missed(origin: Origin) -> Vec<u8> {
    origin.to_vec()
}

/// Reads a message; `None` if it is our own or not one of ours at all.
pub(super) fn read(bytes: &[u8], own: Origin) -> Option<Message<'_>> {
    let (origin, rest) = bytes.split_first_chunk::<8>()?;
    if *origin == own {
        return None;
    }
    if rest.is_empty() {
        return Some(Message::Missed);
    }
    let (job, payload) = rest.split_first_chunk::<16>()?;
    let job = JobId::from_uuid(Uuid::from_bytes(*job));
    Some(Message::Event { job, payload })
}

/// A payload as subscribers get it.
pub(super) fn shared(payload: &[u8]) -> Arc<[u8]> {
    Arc::from(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_by_others_and_passed_over_by_its_sender() {
        let job = JobId::from_uuid(Uuid::from_u128(42));
        let (ours, theirs) = ([1; 8], [2; 8]);
        let bytes = event(theirs, job, b"half");
        let payload = b"half".as_slice();
        assert_eq!(read(&bytes, ours), Some(Message::Event { job, payload }));
        assert_eq!(read(&bytes, theirs), None);
        assert_eq!(read(&missed(theirs), ours), Some(Message::Missed));
        let empty = event(theirs, job, b"");
        assert_eq!(read(&empty, ours), Some(Message::Event { job, payload: b"" }));
        assert_eq!(read(b"short", ours), None);
        assert_eq!(read(b"foreign text", ours), None);
    }
}
