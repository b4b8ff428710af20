//! What the owner of a worker sets.

use std::path::PathBuf;
use std::time::Duration;

use seedfarm_core::terms::Tag;
use seedfarm_engine::DeviceSpec;
use tonic::transport::Endpoint;

use crate::backoff::Backoff;
use crate::owner::{Machine, SharedAllowance};

/// A worker's settings.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Where the coordinators listen: one, or several that stand in for one another.
    pub coordinators: Vec<Endpoint>,
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
    /// Bytes that models fetched from the farm may take on the disk; `None` or 0: none is fetched, and there
    /// must be one in `model_dirs`.
    pub model_cache_bytes: Option<u64>,
    /// Where fetched models lie; workers on one machine may share it. `None`: `worker/fetched` in the data
    /// folder.
    pub model_cache_dir: Option<PathBuf>,
    /// Bytes of finished pictures that may wait for the coordinator; past it, work is handed back.
    pub outbox_limit_bytes: u64,
    /// How long the worker may take to leave. After two thirds of it, the image in the making is given up.
    pub shutdown_deadline: Duration,
    /// How long to wait before trying a lost coordinator again.
    pub backoff: Backoff,
    /// The owner's limits; `None`: `worker/owner.toml` in the data folder, where there is one.
    pub limits_file: Option<PathBuf>,
    /// Words that the worker bears besides those among the owner's limits.
    pub tags: Vec<Tag>,
    /// Where sensors are found.
    pub machine: Machine,
    /// What renderers may take of the machine, as the owner's limits say it while the worker runs.
    pub allowance: SharedAllowance,
    /// Gives memory that was freed back to the system; called on the device's thread after it dropped its
    /// models.
    pub give_back_memory: fn(),
}

impl WorkerConfig {
    /// Settings with nothing but what must be said: all devices, no models, defaults for the rest.
    pub fn new(coordinators: Vec<Endpoint>, token: String, name: String, data_dir: PathBuf) -> Self {
        Self {
            coordinators,
            token,
            name,
            data_dir,
            model_dirs: Vec::new(),
            devices: Vec::new(),
            threads: 0,
            batch: None,
            previews: false,
            model_memory_bytes: None,
            model_cache_bytes: None,
            model_cache_dir: None,
            outbox_limit_bytes: 4 << 30,
            shutdown_deadline: Duration::from_secs(30),
            backoff: Backoff::default(),
            limits_file: None,
            tags: Vec::new(),
            machine: Machine::here(),
            allowance: SharedAllowance::default(),
            give_back_memory: || {},
        }
    }
}
