//! What a coordinator is started with.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_blob::Blob;
use seedfarm_core::ModelManifest;
use seedfarm_store::Store;
use seedfarm_store::bus::Bus;
use tokio::net::TcpListener;
use tonic::transport::ServerTlsConfig;

use crate::auth::Tokens;

/// What to do while another coordinator holds the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenHeld {
    /// Fail, at the start and whenever another one takes over.
    Fail,
    /// Answer what reads, and take over when the other one is gone.
    StandBy,
}

/// What a coordinator is started with.
#[derive(Debug)]
pub struct CoordinatorConfig {
    /// Where it listens.
    pub listener: TcpListener,
    /// Where others reach it, as a URL.
    pub address: String,
    /// What to do while another coordinator holds the database.
    pub when_held: WhenHeld,
    /// The farm's state.
    pub store: Store,
    /// The farm's picture files.
    pub blob: Blob,
    /// Models that may be asked for before any worker has shown them.
    pub manifests: Vec<ModelManifest>,
    /// Who may call.
    pub tokens: Tokens,
    /// Its certificate; `None` serves in the clear.
    pub tls: Option<ServerTlsConfig>,
    /// A lease that its worker does not renew for so long goes to another; 30 s is ordinary.
    pub lease_ttl: Duration,
    /// How often workers report what they hold; well below `lease_ttl`, 5 s is ordinary.
    pub heartbeat: Duration,
    /// How long a lease should take to render; 20 s is ordinary.
    pub target_lease: Duration,
    /// Carries events to those who watch jobs, here and at other replicas; `LocalBus` for one process.
    pub bus: Arc<dyn Bus>,
    /// One line about the database, for the operator.
    pub database_description: String,
}
