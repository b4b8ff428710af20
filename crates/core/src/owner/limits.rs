//! What the owner writes.

use serde::Deserialize;

use super::acceptance::Feature;
use super::hours::Window;
use super::pattern::Pattern;
use super::size::ByteSize;
use crate::limits::{MAX_STEPS, MAX_TAGS, MAX_TENANTS_FIRST};
use crate::terms::{Tag, TenantName};

/// Most entries of any list of the owner's.
const MAX_ENTRIES: usize = 100;
/// Least disk that a worker can work with, in bytes.
const MIN_DISK: u64 = 1 << 30;
/// Most that the outbox takes of the disk, in bytes.
const OUTBOX: u64 = 4 << 30;

/// All limits. What is left out limits nothing.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Devices that render, such as `cpu` or `cuda:0`; the others rest.
    pub devices: Option<Vec<String>>,
    /// Bytes of models that each device keeps loaded.
    pub memory: Option<ByteSize>,
    /// Bytes of disk for fetched models and finished pictures together.
    pub disk: Option<ByteSize>,
    /// A file whose presence stops rendering at once; `None` for `pause` in the worker's folder.
    pub pause_file: Option<String>,
    /// Words that this worker bears.
    pub tags: Vec<Tag>,
    /// Tenants whose jobs go first here.
    pub own_jobs_first: Vec<TenantName>,
    /// Hours in which it renders; none for all.
    pub hours: Vec<Window>,
    /// Whether it renders only while the owner is away.
    pub idle: Option<Idle>,
    /// How hot a device may become.
    pub temperature: Option<Temperature>,
    /// How much power a device may draw.
    pub power: Option<Power>,
    /// How a processor renders.
    pub cpu: Cpu,
    /// Which models it takes.
    pub models: Models,
    /// Which work it takes.
    pub jobs: Jobs,
}

/// A place where the owner's presence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watch {
    /// Typing in a terminal.
    Terminals,
    /// What the desktop tells systemd-logind.
    Logind,
    /// Other programs that compute on the GPU.
    GpuPrograms,
}

impl Watch {
    /// The name in files and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminals => "terminals",
            Self::Logind => "logind",
            Self::GpuPrograms => "gpu-programs",
        }
    }
}

/// Rendering only while the owner is away.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// How long there must have been no sign of the owner.
    #[serde(default = "ten")]
    pub after_minutes: u32,
    /// Where to look; `None` for terminals and logind, as far as they are there.
    pub watch: Option<Vec<Watch>>,
    /// A command of the shell that succeeds while the owner is busy.
    pub busy_command: Option<String>,
    /// Use of the processor by other programs above which the owner is busy, in percent of all of it.
    pub busy_cpu_percent: Option<f64>,
}

const fn ten() -> u32 {
    10
}

/// A device that is hotter rests until it has cooled down.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    /// Above it a device rests, in degrees Celsius.
    pub max_c: f64,
    /// At it or below it renders again; without it, ten degrees less.
    pub resume_c: Option<f64>,
}

impl Temperature {
    /// At or below it a device renders again.
    pub fn resume(&self) -> f64 {
        self.resume_c.unwrap_or(self.max_c - 10.0)
    }
}

/// A device that draws more rests for a while.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// Above it a device rests, in watts.
    pub max_watts: f64,
    /// At it or below it renders again; without it, four fifths.
    pub resume_watts: Option<f64>,
}

impl Power {
    /// At or below it a device renders again.
    pub fn resume(&self) -> f64 {
        self.resume_watts.unwrap_or(self.max_watts * 0.8)
    }
}

/// How a processor renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// Threads that render.
    pub threads: Option<u32>,
    /// Niceness of threads that render, 0 to 19; the highest gives way to every other program.
    pub nice: Option<u32>,
}

/// Models by patterns of their names or digests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Those that are taken; none for all.
    pub accept: Vec<Pattern>,
    /// Those that are not, even if they are accepted above.
    pub refuse: Vec<Pattern>,
}

/// Work by what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jobs {
    /// Kinds of work that are not taken.
    pub refuse: Vec<Feature>,
    /// Most pixels of an image, width times height.
    pub max_pixels: Option<u64>,
    /// Most sampling steps of an image.
    pub max_steps: Option<u32>,
}

/// A limit that cannot be meant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LimitsFault {
    /// A number outside what is possible.
    #[error("{field} is {given}, and must be between {least} and {most}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// What was written.
        given: f64,
        /// The least that is possible.
        least: f64,
        /// The most.
        most: f64,
    },
    /// Hours without an hour.
    #[error("hours from {from} to {to} hold no time: for a whole day leave both out")]
    NoTime {
        /// Their begin.
        from: String,
        /// Their end.
        to: String,
    },
    /// A pattern or a command with nothing in it.
    #[error("{field} is empty: leave it out to set no such limit")]
    Empty {
        /// Which.
        field: &'static str,
    },
    /// Too little disk.
    #[error("disk is {given}, too little to keep finished pictures in: allow at least {least}")]
    LittleDisk {
        /// What was written.
        given: ByteSize,
        /// The least.
        least: ByteSize,
    },
    /// A list that is too long.
    #[error("{what} lists {given}, more than the limit of {most}")]
    TooMany {
        /// Which.
        what: &'static str,
        /// How many were written.
        given: usize,
        /// The limit.
        most: usize,
    },
}

impl Limits {
    /// Holds every limit against what is possible.
    ///
    /// # Errors
    /// The first one that cannot be meant.
    pub fn check(&self) -> Result<(), LimitsFault> {
        self.check_lists()?;
        if let Some(disk) = self.disk.filter(|disk| disk.0 < MIN_DISK) {
            return Err(LimitsFault::LittleDisk { given: disk, least: ByteSize(MIN_DISK) });
        }
        if let Some(window) = self.hours.iter().find(|window| window.is_void()) {
            return Err(LimitsFault::NoTime { from: window.from.to_string(), to: window.to.to_string() });
        }
        not_empty("pause_file", self.pause_file.as_deref())?;
        self.check_idle()?;
        self.check_caps()?;
        within("cpu.threads", self.cpu.threads.map(f64::from), 1.0, 1024.0)?;
        within("cpu.nice", self.cpu.nice.map(f64::from), 0.0, 19.0)?;
        within("jobs.max_steps", self.jobs.max_steps.map(f64::from), 1.0, f64::from(MAX_STEPS))?;
        within("jobs.max_pixels", self.jobs.max_pixels.map(|pixels| pixels as f64), 64.0, 1e12)
    }

    fn check_lists(&self) -> Result<(), LimitsFault> {
        at_most("tags", self.tags.len(), MAX_TAGS)?;
        at_most("own_jobs_first", self.own_jobs_first.len(), MAX_TENANTS_FIRST)?;
        at_most("hours", self.hours.len(), MAX_ENTRIES)?;
        at_most("devices", self.devices.as_ref().map_or(0, Vec::len), MAX_ENTRIES)?;
        for (what, patterns) in
            [("models.accept", &self.models.accept), ("models.refuse", &self.models.refuse)]
        {
            at_most(what, patterns.len(), MAX_ENTRIES)?;
            patterns.iter().try_for_each(|pattern| not_empty(what, Some(&pattern.0)))?;
        }
        Ok(())
    }

    fn check_idle(&self) -> Result<(), LimitsFault> {
        let Some(idle) = &self.idle else { return Ok(()) };
        within("idle.after_minutes", Some(f64::from(idle.after_minutes)), 1.0, 1440.0)?;
        within("idle.busy_cpu_percent", idle.busy_cpu_percent, 1.0, 100.0)?;
        not_empty("idle.busy_command", idle.busy_command.as_deref())
    }

    fn check_caps(&self) -> Result<(), LimitsFault> {
        if let Some(cap) = self.temperature {
            within("temperature.max_c", Some(cap.max_c), 20.0, 120.0)?;
            within("temperature.resume_c", cap.resume_c, 0.0, cap.max_c - 1.0)?;
        }
        if let Some(cap) = self.power {
            within("power.max_watts", Some(cap.max_watts), 1.0, 10_000.0)?;
            within("power.resume_watts", cap.resume_watts, 0.0, cap.max_watts - 1.0)?;
        }
        Ok(())
    }

    /// Bytes of disk for finished pictures, where the owner limits the disk: at most half of it.
    pub fn outbox_bytes(&self) -> Option<u64> {
        self.disk.map(|disk| (disk.0 / 2).min(OUTBOX))
    }

    /// Bytes of disk for fetched models, where the owner limits the disk: what the outbox leaves.
    pub fn model_cache_bytes(&self) -> Option<u64> {
        self.disk.zip(self.outbox_bytes()).map(|(disk, outbox)| disk.0 - outbox)
    }
}

fn within(field: &'static str, given: Option<f64>, least: f64, most: f64) -> Result<(), LimitsFault> {
    match given.filter(|given| !(least..=most).contains(given)) {
        Some(given) => Err(LimitsFault::OutOfRange { field, given, least, most }),
        None => Ok(()),
    }
}

fn not_empty(field: &'static str, given: Option<&str>) -> Result<(), LimitsFault> {
    if given.is_some_and(|text| text.trim().is_empty()) {
        return Err(LimitsFault::Empty { field });
    }
    Ok(())
}

pub(super) fn at_most(what: &'static str, given: usize, most: usize) -> Result<(), LimitsFault> {
    if given > most { Err(LimitsFault::TooMany { what, given, most }) } else { Ok(()) }
}
