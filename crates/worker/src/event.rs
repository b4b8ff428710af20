//! What the node is told: by devices, uploads and the link.

use seedfarm_core::completion::Fence;
use seedfarm_core::{PackageDigest, PackageManifest};
use seedfarm_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::outbox::StoredImage;
use crate::owner::Ruling;
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
    /// The owner wants something else from now on.
    Ruled(Box<Ruling>),
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
    /// Models or adapters came or went, or could not be fetched.
    Restocked(StockChange),
    /// A picture will never be taken by the coordinator, and why.
    UploadRefused(Fence, u64, String),
}

/// What has changed in what this worker can render with.
#[derive(Debug, Default)]
pub(crate) struct StockChange {
    /// What is there now.
    pub added: Vec<PackageManifest>,
    /// What is gone.
    pub removed: Vec<PackageDigest>,
    /// What was wanted and cannot be had now, and why.
    pub declined: Option<(PackageDigest, String)>,
}
