//! The owner's limits: a file that is read again when it changes, and what must be watched to keep to it.
//!
//! `Owner` looks around twice a second, lets `seedfarm_core::owner` judge, and tells the node when a verdict
//! or a limit has changed. It never talks to the coordinator: what follows from a ruling is the node's.

mod allowance;
mod clock;
mod file;
mod logind;
mod look;
mod machine;
mod nvidia;
mod program;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::ModelManifest;
use seedfarm_core::owner::{DeviceObservations, Judge, Limits, Observations, Verdict};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use allowance::{Allowance, SharedAllowance};
pub use file::{LimitsError, LimitsFile};
pub use machine::Machine;
pub use state::{DeviceState, OwnerState};

use self::file::Edits;
use self::look::Look;
use self::state::StateFile;
use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::event::Event;
use crate::home::Home;
use crate::renderer::chain;

/// A file of limits with every limit in it, explained and commented out.
pub const EXAMPLE: &str = include_str!("owner/example.toml");

/// Between two looks. An owner who is back waits for at most this, a program's second and one step.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long programs that measure may take when a person waits.
const MEASURING: Duration = Duration::from_secs(3);

/// What the owner wants now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ruling {
    pub limits: Arc<Limits>,
    /// By the device's index.
    pub verdicts: BTreeMap<u32, Verdict>,
}

/// Whether the owner lets a model in.
pub(crate) fn accepts(limits: &Limits, model: &ModelManifest) -> bool {
    limits.accepts_model(&model.name, &model.digest().to_string())
}

/// A device under judgement.
struct Judged {
    /// Such as `cuda:0`.
    spec: String,
    judge: Judge,
}

/// Watches on the owner's behalf.
pub(crate) struct Owner {
    edits: Edits,
    machine: Machine,
    folder: PathBuf,
    look: Look,
    judged: BTreeMap<u32, Judged>,
    state: StateFile,
    /// What is in force.
    ruling: Ruling,
    /// Why the present file is not in force.
    fault: Option<String>,
}

impl Owner {
    /// Reads the limits and judges for the first time. `devices` are specs and names, by index.
    pub(crate) fn start(
        config: &WorkerConfig,
        home: &Home,
        devices: &[(String, String)],
    ) -> Result<Self, WorkerError> {
        let file = LimitsFile::locate(&config.data_dir, config.limits_file.as_deref());
        let file = file.with_tags(&config.tags);
        let (edits, limits) = Edits::begin(file).map_err(WorkerError::Limits)?;
        let (machine, folder) = (config.machine.clone(), home.path().to_owned());
        let look = Look::new(&machine, &limits, &folder);
        let judged = (0..)
            .zip(devices)
            .map(|(index, (spec, _))| (index, Judged { spec: spec.clone(), judge: Judge::default() }));
        let ruling = Ruling { limits: Arc::new(limits), verdicts: BTreeMap::new() };
        let state = StateFile::new(&folder, edits.path(), devices);
        let mut owner =
            Self { edits, machine, folder, look, judged: judged.collect(), state, ruling, fault: None };
        owner.turn();
        Ok(owner)
    }

    /// What is in force.
    pub(crate) fn ruling(&self) -> &Ruling {
        &self.ruling
    }

    /// Tells of every change until `quit` is cancelled or the node is gone.
    pub(crate) async fn keep_watch(mut self, events: mpsc::Sender<Event>, quit: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = quit.cancelled() => return,
            }
            // Sensors and folders may answer slowly.
            let turned = tokio::task::spawn_blocking(move || {
                let changed = self.turn();
                (self, changed)
            });
            let changed;
            (self, changed) = match turned.await {
                Ok(turned) => turned,
                Err(fault) => std::panic::resume_unwind(fault.into_panic()),
            };
            if !changed {
                continue;
            }
            let told = events.send(Event::Ruled(Box::new(self.ruling.clone())));
            if quit.run_until_cancelled(told).await.is_none_or(|told| told.is_err()) {
                return;
            }
        }
    }

    /// Reads an edited file, looks around and judges; whether anything that is in force has changed.
    fn turn(&mut self) -> bool {
        let before = (self.ruling.clone(), self.fault.clone());
        if let Some(edit) = self.edits.poll() {
            self.edited(edit);
        }
        let seen = self.look.observe();
        for (&index, judged) in &mut self.judged {
            let here = self.look.observe_device(&judged.spec);
            let verdict = judged.judge.judge(&self.ruling.limits, &judged.spec, &seen, &here);
            self.ruling.verdicts.insert(index, verdict);
        }
        if before.0 != self.ruling || before.1 != self.fault {
            self.state.write(&self.ruling, self.fault.as_deref());
        }
        before.0 != self.ruling
    }

    /// Takes a changed file over, or keeps to the old limits where it cannot be read.
    fn edited(&mut self, edit: Result<Limits, LimitsError>) {
        match edit {
            Ok(limits) => {
                tracing::info!(path = %self.edits.path().display(), "the owner's limits were changed and are in force");
                self.look = Look::new(&self.machine, &limits, &self.folder);
                self.ruling.limits = Arc::new(limits);
                self.fault = None;
            }
            Err(fault) => {
                let fault = chain(&fault);
                tracing::error!(
                    error = fault,
                    "the owner's limits cannot be read; the old ones stay in force"
                );
                self.fault = Some(fault);
            }
        }
    }
}

/// What a look around finds under `limits`, for a person who asks: of the machine, and of each of `devices`.
/// `data_dir` is the worker's, where the pause file lies.
pub async fn measure(
    machine: &Machine,
    limits: &Limits,
    data_dir: &Path,
    devices: &[String],
) -> (Observations, Vec<DeviceObservations>) {
    let mut look = Look::new(machine, limits, &crate::home::folder(data_dir));
    let end = Instant::now() + MEASURING;
    loop {
        let seen = look.observe();
        let here = devices.iter().map(|device| look.observe_device(device)).collect();
        if look.has_answers() || Instant::now() >= end {
            return (seen, here);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
