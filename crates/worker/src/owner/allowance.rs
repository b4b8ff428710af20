//! What a renderer may take of its machine.

use std::sync::{Arc, Mutex, PoisonError};

use seedfarm_core::owner::Limits;

/// What the owner lets each device take. What is left out is the renderer's to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Bytes of models that stay loaded.
    pub model_memory_bytes: Option<u64>,
    /// Threads that render on a processor.
    pub threads: Option<usize>,
    /// Their niceness, 0 to 19.
    pub nice: Option<i32>,
}

impl Allowance {
    /// What `limits` leave.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            model_memory_bytes: limits.memory.map(|memory| memory.0),
            threads: limits.cpu.threads.map(|threads| threads as usize),
            nice: limits.cpu.nice.and_then(|nice| i32::try_from(nice).ok()),
        }
    }
}

/// An allowance that changes while renderers run. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SharedAllowance(Arc<Mutex<Allowance>>);

impl SharedAllowance {
    /// What holds now.
    pub fn now(&self) -> Allowance {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it: renderers follow before their next images.
    pub(crate) fn set(&self, allowance: Allowance) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = allowance;
    }
}
