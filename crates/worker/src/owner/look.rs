//! Looking around: only where a limit makes it necessary.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use seedfarm_core::owner::{DeviceObservations, Idle, Limits, Observations, Reading, Sign, Watch};
use seedfarm_engine::DeviceSpec;

use super::clock::local_time;
use super::machine::{LoadMeter, Machine, PowerMeter};
use super::program::{Repeated, Run};
use super::{logind, nvidia};

/// The pause file, where the owner names no other.
const PAUSE: &str = "pause";

/// Exit codes with which a shell says that a command cannot be run at all.
const NOT_RUN: [i32; 2] = [126, 127];

/// Measures what some limits need.
pub(super) struct Look {
    machine: Machine,
    began: Instant,
    pause_file: PathBuf,
    idle: Option<Idle>,
    watched: Vec<Watch>,
    heat: bool,
    power: bool,
    load: LoadMeter,
    watts: PowerMeter,
    logind: Option<Repeated>,
    busy: Option<Repeated>,
    /// Started when a GPU is first looked at.
    gpus: Option<Repeated>,
    gpu_programs: Option<Repeated>,
}

impl Look {
    /// Begins to measure. `folder` is the worker's own.
    pub(super) fn new(machine: &Machine, limits: &Limits, folder: &Path) -> Self {
        let watched = watched(machine, limits.idle.as_ref());
        let busy_command = limits.idle.as_ref().and_then(|idle| idle.busy_command.as_deref());
        let logind = watched.contains(&Watch::Logind);
        Self {
            machine: machine.clone(),
            began: Instant::now(),
            pause_file: folder.join(limits.pause_file.as_deref().unwrap_or(PAUSE)),
            idle: limits.idle.clone(),
            heat: limits.temperature.is_some(),
            power: limits.power.is_some(),
            load: LoadMeter::default(),
            watts: PowerMeter::default(),
            logind: logind.then(|| Repeated::start(machine.program("busctl"), &logind::ARGUMENTS)),
            busy: busy_command.map(|command| Repeated::start("/bin/sh".into(), &["-c", command])),
            gpus: None,
            gpu_programs: None,
            watched,
        }
    }

    /// Whether every program that measures has answered once.
    pub(super) fn has_answers(&self) -> bool {
        let programs = [&self.logind, &self.busy, &self.gpus, &self.gpu_programs];
        let idle_is_measured = self.load.is_ready() || self.cpu_threshold().is_none();
        programs.into_iter().flatten().all(Repeated::has_answered) && idle_is_measured
    }

    /// What there is to see of the machine.
    pub(super) fn observe(&mut self) -> Observations {
        let now = SystemTime::now();
        let mut signs = Vec::new();
        if self.watched.contains(&Watch::Terminals) {
            signs.push(sign(Watch::Terminals.as_str(), self.machine.terminals(now)));
        }
        if let Some(logind) = &self.logind {
            let since = logind.output().and_then(|printed| logind::since_ms(&printed, now));
            signs.push(sign(Watch::Logind.as_str(), since));
        }
        if let Some(busy) = &self.busy {
            signs.push(sign("busy_command", busy.latest().and_then(|run| busy_since(&run))));
        }
        if let Some(most) = self.cpu_threshold() {
            let others = self.load.others(&self.machine);
            let since = others.map(|percent| (percent > most).then_some(0));
            signs.push(sign("other programs use the processor", since));
        }
        if signs.is_empty() && self.idle.is_some() && !self.watched.contains(&Watch::GpuPrograms) {
            let nothing = "this machine has neither terminals nor logind: give a busy_command";
            signs.push(sign("idle", Err(nothing.to_owned())));
        }
        Observations {
            now_ms: i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX),
            time: local_time(),
            paused: self.pause_file.exists(),
            signs,
        }
    }

    fn cpu_threshold(&self) -> Option<f64> {
        self.idle.as_ref()?.busy_cpu_percent
    }

    /// What there is to see of the device called `name`.
    pub(super) fn observe_device(&mut self, name: &str) -> DeviceObservations {
        match name.parse() {
            Ok(DeviceSpec::Cuda(ordinal)) => self.observe_gpu(ordinal),
            _ => self.observe_cpu(),
        }
    }

    fn observe_cpu(&mut self) -> DeviceObservations {
        let (heat, power) = (self.heat, self.power);
        DeviceObservations {
            signs: Vec::new(),
            temperature_c: asked(heat, || self.machine.cpu_temperature()),
            watts: asked(power, || self.watts.watts(&self.machine, Instant::now())),
        }
    }

    fn observe_gpu(&mut self, ordinal: usize) -> DeviceObservations {
        let programs = self.watched.contains(&Watch::GpuPrograms);
        let gpu = asked(self.heat || self.power || programs, || self.gpu(ordinal));
        let signs = programs.then(|| {
            let since = gpu.clone().and_then(|gpu| self.others_on(&gpu.id));
            sign("other programs compute on the GPU", since)
        });
        DeviceObservations {
            signs: signs.into_iter().collect(),
            temperature_c: gpu.clone().and_then(|gpu| gpu.temperature_c),
            watts: gpu.and_then(|gpu| gpu.watts),
        }
    }

    fn gpu(&mut self, ordinal: usize) -> Reading<nvidia::Gpu> {
        let start = || Repeated::start(self.machine.program("nvidia-smi"), &nvidia::GPUS);
        let printed = self.gpus.get_or_insert_with(start).output()?;
        nvidia::gpu(&printed, ordinal, self.machine.visible.as_deref())
    }

    fn others_on(&mut self, id: &str) -> Reading<Option<u64>> {
        let start = || Repeated::start(self.machine.program("nvidia-smi"), &nvidia::PROGRAMS);
        let printed = self.gpu_programs.get_or_insert_with(start).output()?;
        Ok(nvidia::has_others(&printed, id, std::process::id()).then_some(0))
    }
}

/// What is watched for the owner: what the limits name, or what is there.
fn watched(machine: &Machine, idle: Option<&Idle>) -> Vec<Watch> {
    let Some(idle) = idle else { return Vec::new() };
    idle.watch.clone().unwrap_or_else(|| {
        let there = [(Watch::Terminals, "dev/pts"), (Watch::Logind, "run/systemd/seats")];
        there.into_iter().filter(|(_, path)| machine.has(path)).map(|(watch, _)| watch).collect()
    })
}

fn sign(source: &str, since_ms: Reading<Option<u64>>) -> Sign {
    Sign { source: source.to_owned(), since_ms }
}

fn busy_since(run: &Run) -> Reading<Option<u64>> {
    if NOT_RUN.contains(&run.code) {
        return Err(format!("the shell cannot run it (code {})", run.code));
    }
    Ok((run.code == 0).then_some(0))
}

fn asked<T>(wanted: bool, read: impl FnOnce() -> Reading<T>) -> Reading<T> {
    if wanted { read() } else { Err("no limit needs it".to_owned()) }
}
