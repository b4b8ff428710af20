//! A node that renders: devices, leases, render loop, upload, outbox.
//!
//! [`run`] finds this machine's devices and models and serves a coordinator until told to stop;
//! [`serve`] does the same with devices that the caller made, whatever they render with.
//!
//! How an image travels: the coordinator grants a `lease`; the device's render thread (`device`)
//! renders it while the next lease waits; its store thread (`storing`) writes each picture file into the
//! `outbox`; `upload` sends the files, and `node`, which alone knows the state of every lease, sends
//! the completion and forgets the lease when the coordinator has stored it. `link` keeps the stream up.
//!
//! What is rendered with stands on the `shelf`: the owner's models (`library`), and those that were `fetched`
//! from the farm, which come and go while the worker runs.
//!
//! Nothing here decides whose result counts: the fence of a lease does, at the coordinator.

mod adapters;
mod backoff;
mod config;
mod device;
mod diary;
mod durable;
mod engine;
mod error;
mod event;
mod fetched;
mod home;
mod lease;
mod library;
mod link;
mod node;
mod outbox;
pub mod owner;
mod pictures;
mod renderer;
mod shelf;
mod storing;
mod upload;

pub use adapters::adapter_candidates;
pub use backoff::Backoff;
pub use config::WorkerConfig;
pub use error::WorkerError;
pub use node::{RenderDevice, Stock, serve};
pub use renderer::{Drawn, Fault, Pictures, RenderFault, Renderer, Step, Watcher};

use tokio_util::sync::CancellationToken;

/// Renders for the coordinator that `config` names, until `shutdown` is cancelled or the coordinator
/// tells the worker to leave.
///
/// A coordinator that cannot be reached is tried again for ever. When told to stop, the worker finishes
/// the images in the making, completes what is done and hands back the rest; what could not be delivered
/// stays in the outbox for the next start.
///
/// # Errors
/// A data folder that cannot be used, models or devices that are not there, and a coordinator that
/// refuses this worker for good, such as for a wrong token.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
    let (shelf, devices) = engine::find(&config).await?;
    node::serve_from(config, shelf, devices, shutdown).await
}
