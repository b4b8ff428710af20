//! What devices have in memory, what it costs to load something else, and when that is worth it.
//!
//! A *load* is a model in one arithmetic with its adapters: what a device must have in memory to render.
//! Jobs that share a load follow one another without a swap. The size of pictures is no part of it: the
//! engine builds nothing for a size.

use std::collections::HashMap;

use super::class::{Class, Group};
use super::fleet::blend;
use crate::digest::AdapterDigest;
use crate::terms::Urgency;

/// Share of a device's time that swaps may take while it has work of what is loaded.
const OVERHEAD: f64 = 0.1;
/// How many times as long as a swap the work must take that it is for.
const WORTH: f64 = 3.0;
/// Bytes of weights that a device loads in a millisecond, until swaps were measured.
const BYTES_PER_MS: f64 = 500_000.0;
/// What a swap takes where not even the size of the weights is known, in milliseconds.
const UNKNOWN_SWAP_MS: f64 = 5_000.0;
/// What an image takes until one was measured, in milliseconds.
pub(super) const UNKNOWN_IMAGE_MS: f64 = 10_000.0;
/// How long the head of the line waits while devices stay with what they have loaded, in milliseconds.
const INTERACTIVE_BOUND_MS: i64 = 30_000;
/// The same where nobody sits in front of it.
const BULK_BOUND_MS: i64 = 600_000;

/// A load by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LoadId(pub(super) u32);

/// What a device has loaded, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) load: LoadId,
    pub(super) since_ms: i64,
}

/// One load: who has it, what waits for it, what it costs.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Connected devices that have it in memory.
    pub(super) devices: usize,
    /// Images of ready jobs.
    pub(super) waiting: u64,
    /// Mean time of an image over all devices.
    image_ms: Option<f64>,
    swap_ms: Option<f64>,
    weights_bytes: u64,
}

impl Load {
    /// Mean time of an image, in milliseconds.
    pub(super) fn image_ms(&self) -> f64 {
        self.image_ms.unwrap_or(UNKNOWN_IMAGE_MS)
    }

    /// What it takes to load it, in milliseconds.
    pub(super) fn swap_ms(&self) -> f64 {
        let guess =
            if self.weights_bytes == 0 { UNKNOWN_SWAP_MS } else { self.weights_bytes as f64 / BYTES_PER_MS };
        self.swap_ms.unwrap_or(guess)
    }

    /// How long a device stays with it at least, so that swaps take no more than their share.
    pub(super) fn residency_ms(&self) -> i64 {
        (self.swap_ms() * (1.0 - OVERHEAD) / OVERHEAD) as i64
    }

    /// How long one device more would be busy with its part of what waits; for ever where nobody has it.
    fn part_ms(&self) -> f64 {
        match self.devices {
            0 => f64::INFINITY,
            devices => self.waiting as f64 * self.image_ms() / (devices + 1) as f64,
        }
    }
}

/// All loads that jobs of this reign have asked for.
#[derive(Debug, Default)]
pub(super) struct Loads {
    numbers: HashMap<(Group, Vec<AdapterDigest>), LoadId>,
    loads: Vec<Load>,
}

impl Loads {
    /// The number of what a class must have in memory.
    pub(super) fn of(&mut self, class: &Class, weights_bytes: u64) -> LoadId {
        let next = LoadId(u32::try_from(self.loads.len()).unwrap_or(u32::MAX));
        let id = *self.numbers.entry((class.group, class.adapters.clone())).or_insert(next);
        if id == next {
            self.loads.push(Load::default());
        }
        let load = self.get_mut(id);
        load.weights_bytes = load.weights_bytes.max(weights_bytes);
        id
    }

    pub(super) fn get(&self, id: LoadId) -> &Load {
        &self.loads[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: LoadId) -> &mut Load {
        &mut self.loads[id.0 as usize]
    }

    /// Notes what an image took, in milliseconds.
    pub(super) fn measured(&mut self, id: LoadId, image_ms: f64) {
        blend(self.get_mut(id).image_ms.get_or_insert(image_ms), image_ms);
    }

    /// Notes what a swap took, in milliseconds.
    pub(super) fn swapped(&mut self, id: LoadId, swap_ms: f64) {
        blend(self.get_mut(id).swap_ms.get_or_insert(swap_ms), swap_ms);
    }

    /// Whether a device had better load `cold`, giving up `kept`, which has work left that it may take.
    ///
    /// Worth it is what nobody has loaded, and what would keep one device more busy for several times as long
    /// as the swap and, where the load that is given up still has work, the swap back take together.
    pub(super) fn is_worth(&self, cold: LoadId, kept: Option<LoadId>) -> bool {
        let wiped = kept.map_or(0.0, |kept| self.get(kept).swap_ms());
        self.get(cold).part_ms() > WORTH * (self.get(cold).swap_ms() + wiped)
    }
}

/// How long the head of the line may wait for devices that stay with what they have loaded.
pub(super) const fn bound_ms(urgency: Urgency) -> i64 {
    match urgency {
        Urgency::Interactive => INTERACTIVE_BOUND_MS,
        Urgency::Bulk => BULK_BOUND_MS,
    }
}
