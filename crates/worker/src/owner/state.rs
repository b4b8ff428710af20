//! What a running worker does on its owner's behalf, in a file beside its id, for whoever asks why it rests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Ruling;
use crate::{durable, home};

/// Its name in the worker's folder.
const NAME: &str = "owner-state.json";

/// What a running worker does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerState {
    /// The worker's process.
    pub pid: u32,
    /// The file of limits that it keeps to.
    pub limits_file: PathBuf,
    /// Why that file, as it is now, is not in force.
    pub fault: Option<String>,
    /// Its devices.
    pub devices: Vec<DeviceState>,
}

/// What one device does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Such as `cuda:0`.
    pub device: String,
    /// What it calls itself.
    pub name: String,
    /// Why it rests; absent while it works.
    pub resting: Option<String>,
    /// Since when, in milliseconds since 1970-01-01 UTC.
    pub since_ms: u64,
}

impl OwnerState {
    /// What the worker of `data_dir` does; `None` where none runs.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let bytes = fs::read(home::folder(data_dir).join(NAME)).ok()?;
        let state: Self = serde_json::from_slice(&bytes).ok()?;
        // One that was killed leaves its file behind.
        Path::new("/proc").join(state.pid.to_string()).exists().then_some(state)
    }
}

/// The file, gone with the worker.
pub(super) struct StateFile {
    path: PathBuf,
    limits_file: PathBuf,
    devices: Vec<(String, String)>,
    since: BTreeMap<u32, (Option<String>, u64)>,
}

impl StateFile {
    pub(super) fn new(folder: &Path, limits_file: &Path, devices: &[(String, String)]) -> Self {
        Self {
            path: folder.join(NAME),
            limits_file: limits_file.to_owned(),
            devices: devices.to_vec(),
            since: BTreeMap::new(),
        }
    }

    /// Notes what is in force. Where it cannot be written the worker goes on all the same.
    pub(super) fn write(&mut self, ruling: &Ruling, fault: Option<&str>) {
        let state = OwnerState {
            pid: std::process::id(),
            limits_file: self.limits_file.clone(),
            fault: fault.map(str::to_owned),
            devices: self.device_states(ruling),
        };
        let written = serde_json::to_vec(&state).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|bytes| durable::write(&self.path, &bytes)) {
            tracing::warn!(path = %self.path.display(), %error, "what the devices do cannot be noted");
        }
    }

    fn device_states(&mut self, ruling: &Ruling) -> Vec<DeviceState> {
        let mut states = Vec::new();
        for (index, (device, name)) in (0..).zip(&self.devices) {
            let resting = ruling.verdicts.get(&index).and_then(|verdict| verdict.reason()).map(str::to_owned);
            let since = self.since.entry(index).or_insert_with(|| (resting.clone(), now_ms()));
            if since.0 != resting {
                *since = (resting.clone(), now_ms());
            }
            states.push(DeviceState {
                device: device.clone(),
                name: name.clone(),
                resting,
                since_ms: since.1,
            });
        }
        states
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        // A file that stays behind names a process that is gone.
        let _ = fs::remove_file(&self.path);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
