//! Benchmarks: they measure, on a farm of their own in a folder that is removed afterwards.

pub mod backlog;
pub mod control;
mod cpu;
pub mod crowd;
pub mod engine;
pub mod farm;
mod latency;
pub mod pace;
mod process;
mod session;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use seedfarm_coordinator::WhenHeld;
use seedfarm_core::ModelManifest;
use seedfarm_runtime::secret;

use crate::args::{DatabaseArgs, StorageArgs, TimingArgs};
use crate::local::coordinator::Setup;

/// A folder below the system's folder for temporary files; removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("seedfarm-bench-{}", secret::random_hex(6)?));
        std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the benchmark's folder could not be removed");
        }
    }
}

/// A coordinator for a benchmark, with a private database that flushes what it acknowledges.
fn setup(scratch: &Scratch, pg_bin: Option<PathBuf>, manifests: Vec<ModelManifest>) -> Setup {
    Setup {
        listen: "127.0.0.1:0".to_owned(),
        data_dir: scratch.path().join("data"),
        storage: StorageArgs {
            database: DatabaseArgs { pg_bin, ..DatabaseArgs::default() },
            ..StorageArgs::default()
        },
        manifests,
        tls: None,
        plaintext: false,
        timing: TimingArgs::default(),
        advertise: None,
        when_held: WhenHeld::Fail,
    }
}
