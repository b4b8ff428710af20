//! Why a worker cannot start or go on.

use std::io;
use std::path::PathBuf;

use crate::owner::LimitsError;

/// A worker that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The data folder cannot be used.
    #[error("cannot use {}: give a data folder that this user may write to, on a disk with space", path.display())]
    DataFolder {
        /// The file or folder in it.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// Another worker has the data folder.
    #[error("another worker runs on {}: stop it, or give this one a data folder of its own", path.display())]
    DataFolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The id in the data folder cannot be read.
    #[error("{} holds '{text}', which is no worker id: remove the file to get a new one", path.display())]
    NotAnId {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// The owner's limits cannot be read: a worker that does not know them does not start.
    #[error(transparent)]
    Limits(LimitsError),
    /// No model was found.
    #[error(
        "no model was found in {folders}: give a folder in the layout that diffusers writes, or one that holds such folders"
    )]
    NoModel {
        /// Where was looked, separated by commas.
        folders: String,
    },
    /// A device that was asked for is not there.
    #[error("device '{given}' is not there: this program found {found} on this machine")]
    NoSuchDevice {
        /// What was asked for.
        given: String,
        /// What there is, separated by commas.
        found: String,
    },
    /// The token cannot be sent.
    #[error("the worker token cannot be used")]
    Token(#[source] seedfarm_runtime::RuntimeError),
    /// The coordinator refuses this worker for good.
    #[error("the coordinator refuses this worker: {message}")]
    Refused {
        /// The coordinator's own words.
        message: String,
        /// The whole status.
        source: Box<tonic::Status>,
    },
    /// The coordinator speaks other versions of the protocol.
    #[error(
        "this worker speaks version {} of the protocol, and the coordinator {oldest} to {newest}: upgrade the older of \
         the two",
        seedfarm_proto::PROTOCOL
    )]
    Protocol {
        /// The oldest version that the coordinator speaks.
        oldest: u32,
        /// The newest.
        newest: u32,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for device {device}: the system's limit of threads is reached")]
    Thread {
        /// The device, from 0.
        device: u32,
        /// The system's own words.
        source: io::Error,
    },
}
