//! What the node says to the coordinator, and whether it listens.

use std::time::Duration;

use seedfarm_proto::v1;
use seedfarm_proto::v1::session_request::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages that must find room even when there is much to murmur.
const RESERVED: usize = 512;

/// The present stream, if there is one.
#[derive(Default)]
pub(super) struct Talk {
    stream: Option<Stream>,
}

struct Stream {
    outbound: mpsc::Sender<v1::SessionRequest>,
    close: CancellationToken,
    /// Since the coordinator's Welcome.
    heartbeat: Option<Heartbeat>,
}

struct Heartbeat {
    interval: Duration,
    next: Instant,
}

impl Talk {
    /// A stream is being opened.
    pub(super) fn open(&mut self, outbound: mpsc::Sender<v1::SessionRequest>, close: CancellationToken) {
        self.stream = Some(Stream { outbound, close, heartbeat: None });
    }

    /// The coordinator answered Hello; heartbeats begin.
    pub(super) fn welcome(&mut self, interval: Duration) {
        if let Some(stream) = &mut self.stream {
            stream.heartbeat = Some(Heartbeat { interval, next: Instant::now() + interval });
        }
    }

    /// The stream is over.
    pub(super) fn close(&mut self) {
        self.stream = None;
    }

    /// Closes this side of the stream; what was said before still goes out.
    pub(super) fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Whether the coordinator has answered Hello on the present stream.
    pub(super) fn is_welcome(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.heartbeat.is_some())
    }

    /// Says something that matters. A coordinator that has let so many messages pile up does not listen:
    /// then the stream is closed, and everything that matters is said again on the next.
    pub(super) fn say(&mut self, message: Message) {
        let Some(stream) = &self.stream else { return };
        if stream.outbound.try_send(v1::SessionRequest { message: Some(message) }).is_err() {
            tracing::warn!("the coordinator does not take what it is told; opening a new stream");
            stream.close.cancel();
            self.stream = None;
        }
    }

    /// Says something that may be lost.
    pub(super) fn murmur(&self, message: Message) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.outbound.capacity() > RESERVED) {
            let _ = stream.outbound.try_send(v1::SessionRequest { message: Some(message) });
        }
    }

    /// When the next heartbeat is due.
    pub(super) fn next_heartbeat(&self) -> Option<Instant> {
        self.stream.as_ref()?.heartbeat.as_ref().map(|heartbeat| heartbeat.next)
    }

    /// Whether a heartbeat is due; if it is, the next one is an interval away.
    pub(super) fn is_heartbeat_due(&mut self, now: Instant) -> bool {
        let heartbeat = self.stream.as_mut().and_then(|stream| stream.heartbeat.as_mut());
        let Some(heartbeat) = heartbeat.filter(|heartbeat| heartbeat.next <= now) else { return false };
        heartbeat.next = now + heartbeat.interval;
        true
    }
}
