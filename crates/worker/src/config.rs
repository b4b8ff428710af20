//! What the owner of a worker sets.

use std::path::PathBuf;
use std::time::Duration;

use seedfarm_engine::DeviceSpec;
use tonic::transport::Endpoint;

use crate::backoff::Backoff;

/// A worker's settings.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Where the coordinator listens.
    pub coordinator: Endpoint,
    /// The farm's worker token.
    pub token: String,
    /// A name for people, at most 200 bytes.
    pub name: String,
    /// The worker's id and outbox lie in the folder `worker` in here. One worker at a time may use it.
    pub data_dir: PathBuf,
    /// Models, or folders that hold some; adapters lie beside the models or in folders of their own there.
    pub model_dirs: Vec<PathBuf>,
    /// Devices to render on; one may be named several times. Empty: all of this machine.
    pub devices: Vec<DeviceSpec>,
    /// Render threads of each CPU device; 0: one for each processor. Pixels do not depend on it.
    pub threads: usize,
    /// Most images that a device renders together; `None`: 1 on a CPU, 4 on a GPU. Pixels do not depend
    /// on it.
    pub batch: Option<usize>,
    /// Whether progress carries small pictures of images in the making. Each costs one pass through the
    /// decoder, about eight an image.
    pub previews: bool,
    /// Bytes of models that each device keeps loaded; `None`: half of the machine's memory, shared by its
    /// devices. One model is always kept.
    pub model_memory_bytes: Option<u64>,
    /// Bytes of finished pictures that may wait for the coordinator; past it, work is handed back.
    pub outbox_limit_bytes: u64,
    /// How long the worker may take to leave. After two thirds of it, the image in the making is given up.
    pub shutdown_deadline: Duration,
    /// How long to wait before trying a lost coordinator again.
    pub backoff: Backoff,
}

impl WorkerConfig {
    /// Settings with nothing but what must be said: all devices, no models, defaults for the rest.
    pub fn new(coordinator: Endpoint, token: String, name: String, data_dir: PathBuf) -> Self {
        Self {
            coordinator,
            token,
            name,
            data_dir,
            model_dirs: Vec::new(),
            devices: Vec::new(),
            threads: 0,
            batch: None,
            previews: false,
            model_memory_bytes: None,
            outbox_limit_bytes: 4 << 30,
            shutdown_deadline: Duration::from_secs(30),
            backoff: Backoff::default(),
        }
    }
}
