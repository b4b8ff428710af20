//! What a job asks of the farm besides pictures: whose it is, how urgent, where it may run, when to stop.

mod change;
mod name;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use change::CHANGEABLE;
pub use name::{Tag, TenantName};

use crate::id::JobId;
use crate::invalid::Invalid;
use crate::limits;

/// Whether somebody sits in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Nobody waits for single images.
    #[default]
    Bulk,
    /// Somebody waits: goes before the tenant's bulk jobs.
    Interactive,
}

impl Urgency {
    /// Every urgency.
    pub const ALL: [Self; 2] = [Self::Bulk, Self::Interactive];

    /// The name in the database, in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Interactive => "interactive",
        }
    }

    /// The urgency called `name`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn from_name(name: &str) -> Result<Self, Invalid> {
        crate::sampling::choice("urgency", name, &Self::ALL, |urgency| urgency.as_str())
    }
}

/// What a device must be besides having the model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Requirements {
    /// Tags that its worker must bear, each once, in ascending order.
    pub tags: Vec<Tag>,
    /// Memory that it must have, in bytes; 0 asks for none.
    pub memory_bytes: u64,
}

/// When a job stops by itself. A job that stops is paused and says why; nothing of it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Caps {
    /// Device time that it may take, in milliseconds.
    pub budget_ms: Option<u64>,
    /// Images that may be given up before it stops.
    pub max_failures: Option<u64>,
    /// Device time below which an image counts as a failure of the worker, in milliseconds: a success
    /// that came too fast is none.
    pub min_image_ms: Option<u64>,
}

/// The terms of one job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct JobTerms {
    /// Whose it is: tenants share devices by their weights.
    pub tenant: TenantName,
    /// Whether somebody waits.
    pub urgency: Urgency,
    /// Higher goes first within the tenant; -100 to 100, 0 is ordinary.
    pub priority: i32,
    /// When it should be finished, in milliseconds since 1970-01-01 UTC.
    pub deadline_ms: Option<i64>,
    /// What a device must be.
    pub requirements: Requirements,
    /// Most devices that render it at once.
    pub max_devices: Option<u32>,
    /// When it stops by itself.
    pub caps: Caps,
    /// Jobs that must be finished before any of its images is leased.
    pub after: Vec<JobId>,
    /// Jobs whose image `i` must be settled before its image `i` is leased.
    pub after_images: Vec<JobId>,
}

impl JobTerms {
    /// Ordinary terms of one tenant.
    pub fn of(tenant: TenantName) -> Self {
        Self { tenant, ..Self::default() }
    }

    /// Holds every term against its limit.
    ///
    /// # Errors
    /// The first term that is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.priority.abs() > limits::MAX_PRIORITY {
            return Err(Invalid::PriorityOutOfRange { given: self.priority });
        }
        at_most("tags", self.requirements.tags.len(), limits::MAX_TAGS)?;
        at_most("jobs to wait for", self.after.len() + self.after_images.len(), limits::MAX_DEPENDENCIES)?;
        not_zero("max_devices", self.max_devices.map(u64::from))?;
        not_zero("budget", self.caps.budget_ms)?;
        Ok(())
    }

    /// Every job that this one waits for.
    pub fn dependencies(&self) -> impl Iterator<Item = JobId> + '_ {
        self.after.iter().chain(&self.after_images).copied()
    }
}

/// A tenant's share of the farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TenantPolicy {
    /// Device time relative to other tenants that have work, 1 to 1000.
    pub weight: u32,
    /// Most devices that render for it at once.
    pub max_devices: Option<u32>,
    /// Most images of its unfinished jobs, rendered ones included.
    pub max_images: Option<u64>,
}

impl Default for TenantPolicy {
    fn default() -> Self {
        Self { weight: 100, max_devices: None, max_images: None }
    }
}

impl TenantPolicy {
    /// Holds the policy against its limits.
    ///
    /// # Errors
    /// The first part that is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        if !(1..=limits::MAX_WEIGHT).contains(&self.weight) {
            return Err(Invalid::NumberOutOfRange {
                field: "weight",
                given: self.weight.to_string(),
                least: 1.0,
                most: f64::from(limits::MAX_WEIGHT),
            });
        }
        Ok(())
    }
}

/// What a limit on devices is for, besides single jobs and tenants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum LimitKey {
    /// All work of the model of this name.
    Model(String),
    /// All work of models under this licence, as their manifests spell it.
    Licence(String),
}

impl LimitKey {
    /// The kind in the database and on the command line.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Licence(_) => "licence",
        }
    }

    /// The model or licence.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(name) | Self::Licence(name) => name,
        }
    }

    /// Puts kind and name together.
    ///
    /// # Errors
    /// If there is no such kind.
    pub fn new(kind: &str, name: String) -> Result<Self, Invalid> {
        match kind {
            "model" => Ok(Self::Model(name)),
            "licence" => Ok(Self::Licence(name)),
            _ => Err(Invalid::UnknownChoice {
                field: "kind of limit",
                given: kind.to_owned(),
                known: "model, licence".to_owned(),
            }),
        }
    }
}

/// Why a paused job does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A person paused it.
    Person,
    /// It has taken the device time of its budget.
    Budget,
    /// More images were given up than it allows.
    Failures,
}

impl Hold {
    /// Every hold.
    pub const ALL: [Self; 3] = [Self::Person, Self::Budget, Self::Failures];

    /// The name in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Budget => "budget",
            Self::Failures => "failures",
        }
    }

    /// The hold called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.as_str() == name)
    }
}

impl Caps {
    /// What stops a job that has taken `device_ms` and given `failed` images up, if anything does.
    pub fn reached(&self, device_ms: u64, failed: u64) -> Option<Hold> {
        if self.max_failures.is_some_and(|most| failed > most) {
            return Some(Hold::Failures);
        }
        self.budget_ms.is_some_and(|budget| device_ms >= budget).then_some(Hold::Budget)
    }
}

fn at_most(field: &'static str, given: usize, most: usize) -> Result<(), Invalid> {
    if given > most { Err(Invalid::TooManyTerms { field, given, most }) } else { Ok(()) }
}

fn not_zero(field: &'static str, given: Option<u64>) -> Result<(), Invalid> {
    if given == Some(0) { Err(Invalid::ZeroTerm { field }) } else { Ok(()) }
}
