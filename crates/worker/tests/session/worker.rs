//! The worker under test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::{Fingerprint, Numerics};
use seedfarm_engine::DeviceSpec;
use seedfarm_worker::{Backoff, RenderDevice, Stock, WorkerConfig, WorkerError, serve};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::coordinator::{Coordinator, TOKEN, soon};
use crate::painter::{Gate, Painter};
use crate::recipes;

pub struct Worker {
    pub shutdown: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

pub fn folder() -> TempDir {
    TempDir::new().unwrap()
}

pub fn config(coordinator: &Coordinator, folder: &Path) -> WorkerConfig {
    let endpoint = Endpoint::from_shared(format!("http://{}", coordinator.address)).unwrap();
    WorkerConfig {
        backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(50) },
        ..WorkerConfig::new(vec![endpoint], TOKEN.into(), "test".into(), folder.into())
    }
}

pub fn painter(gate: &Arc<Gate>) -> RenderDevice {
    RenderDevice {
        name: "easel".into(),
        spec: DeviceSpec::Cpu,
        backend: "cpu".into(),
        memory_bytes: 0,
        fingerprints: vec![Fingerprint {
            numerics: Numerics::Strict,
            engine_revision: 1,
            backend: "cpu".into(),
            architecture: "any".into(),
            precision: "f32".into(),
            libraries: Default::default(),
            device_name: "easel".into(),
        }],
        batch: 1,
        renderer: Box::new(Painter { gate: Arc::clone(gate) }),
    }
}

impl Worker {
    /// A worker with one painter and the usual settings.
    pub fn start(coordinator: &Coordinator, folder: &TempDir, gate: &Arc<Gate>) -> Self {
        Self::start_with(config(coordinator, folder.path()), vec![painter(gate)])
    }

    pub fn start_with(config: WorkerConfig, devices: Vec<RenderDevice>) -> Self {
        let shutdown = CancellationToken::new();
        let stock = Stock { models: vec![recipes::manifest()], adapters: Vec::new() };
        let task = tokio::spawn(serve(config, stock, devices, shutdown.clone()));
        Self { shutdown, task }
    }

    /// How the worker ends by itself.
    pub async fn end(self) -> Result<(), WorkerError> {
        soon("the worker's end", self.task).await.unwrap()
    }

    /// Ends it as a kill does: nothing more is said or written.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Leases that lie in the outbox.
pub fn outbox_entries(folder: &TempDir) -> usize {
    std::fs::read_dir(folder.path().join("worker/outbox")).unwrap().count()
}
