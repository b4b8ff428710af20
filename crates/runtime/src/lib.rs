//! Process plumbing without a domain word: logging, shutdown, TLS, listening, secrets.
//!
//! What a program of any kind needs around its work. Nothing here may know what that work is.

pub mod bearer;
pub mod endpoint;
pub mod error;
pub mod listen;
pub mod logging;
pub mod replicas;
pub mod secret;
pub mod shutdown;
pub mod tls;

pub use bearer::Bearer;
pub use error::RuntimeError;
pub use replicas::{Replicas, Turns};
pub use tokio_util::sync::CancellationToken;
