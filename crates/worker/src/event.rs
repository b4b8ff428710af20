//! What the node is told: by devices, uploads and the link.

use seedfarm_core::completion::Fence;
use seedfarm_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::outbox::StoredImage;
use crate::renderer::Fault;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stream to the coordinator is being opened; Hello goes first.
    Opening {
        /// What is sent here goes to the coordinator, in order.
        outbound: mpsc::Sender<v1::SessionRequest>,
        /// Ends the stream from this side.
        close: CancellationToken,
    },
    /// The coordinator said something.
    Heard(v1::session_response::Message),
    /// The stream is over; another is opened after a while.
    Closed,
    /// The coordinator refuses this worker for good.
    Refused(Box<tonic::Status>),
    /// A device is some way further. Lost when there is too much else to tell.
    Progress(v1::Progress),
    /// A picture lies in the outbox.
    Stored(Fence, StoredImage),
    /// Rendering of a lease is over; every picture that it gave was told of before.
    Ended(Fence, Option<Fault>),
    /// A picture lies at the coordinator.
    Uploaded(Fence),
    /// A picture will never be taken by the coordinator, and why.
    UploadRefused(Fence, u64, String),
}
