//! What a job needs of a device, what a device offers, and what is missing between the two.

use std::collections::BTreeSet;

use crate::digest::{AdapterDigest, ModelDigest};
use crate::owner::{Acceptance, Feature, features};
use crate::recipe::{Numerics, RecipeTemplate};
use crate::terms::{JobTerms, Requirements, Tag, Urgency};

/// The model and the class of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The model.
    pub model: ModelDigest,
    /// The class of arithmetic.
    pub numerics: Numerics,
}

/// How demanding the most demanding image of a job is; zeros where nobody said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Demand {
    /// Width times height.
    pub pixels: u64,
    /// Sampling steps.
    pub steps: u32,
    /// The kinds of work that it is.
    pub features: BTreeSet<Feature>,
}

impl Demand {
    /// The demand of a job of these templates.
    pub fn of<'a>(templates: impl Iterator<Item = &'a RecipeTemplate>) -> Self {
        let mut demand = Self::default();
        for template in templates {
            demand.pixels = demand.pixels.max(u64::from(template.width) * u64::from(template.height));
            demand.steps = demand.steps.max(template.steps());
            demand.features.extend(features(template));
        }
        demand
    }

    /// The same demand of a job of this urgency.
    pub fn under(mut self, urgency: Urgency) -> Self {
        let (is, other) = match urgency {
            Urgency::Bulk => (Feature::Bulk, Feature::Interactive),
            Urgency::Interactive => (Feature::Interactive, Feature::Bulk),
        };
        self.features.remove(&other);
        self.features.insert(is);
        self
    }
}

/// What a device offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// Models that its worker has.
    pub models: BTreeSet<ModelDigest>,
    /// Classes of arithmetic in which it renders.
    pub numerics: BTreeSet<Numerics>,
    /// Adapters that its worker has.
    pub adapters: BTreeSet<AdapterDigest>,
    /// Its memory; 0 when its worker did not say, and then work that asks for memory passes it over.
    pub memory_bytes: u64,
    /// What its owner lets in, and the tags that its worker bears.
    pub acceptance: Acceptance,
}

/// All that decides which devices may render a job. Jobs of one class may go to the same devices and are
/// held back by the same limits of models and licences.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class {
    /// The model and the arithmetic.
    pub group: Group,
    /// The model's name, for limits.
    pub model_name: String,
    /// The model's licence, for limits.
    pub licence: Option<String>,
    /// Adapters that the worker must have, each once, in ascending order.
    pub adapters: Vec<AdapterDigest>,
    /// Tags and memory.
    pub requirements: Requirements,
    /// What the owner must let in.
    pub demand: Demand,
}

impl Class {
    /// The class of the same job under other terms.
    pub fn under(self, terms: &JobTerms) -> Self {
        Self { requirements: terms.requirements.clone(), demand: self.demand.under(terms.urgency), ..self }
    }

    /// The first thing that a device lacks of what no model and no adapter can make up for: tags, memory, its
    /// owner's leave.
    pub fn lacks_leave(&self, acceptance: &Acceptance, memory_bytes: u64) -> Option<Lack> {
        let absent = |tag: &&Tag| !acceptance.tags.contains(tag);
        let tags: Vec<Tag> = self.requirements.tags.iter().filter(absent).cloned().collect();
        if !tags.is_empty() {
            return Some(Lack::Tags(tags));
        }
        if memory_bytes < self.requirements.memory_bytes {
            return Some(Lack::Memory);
        }
        refuses(acceptance, &self.demand)
    }
}

/// The first thing that a device lacks for a class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The model.
    Model,
    /// The class of arithmetic.
    Numerics,
    /// These adapters.
    Adapters(Vec<AdapterDigest>),
    /// These tags.
    Tags(Vec<Tag>),
    /// Memory: less than is asked for, or not told.
    Memory,
    /// Its owner's leave: the pictures are too large.
    Pixels,
    /// Its owner's leave: there are too many steps.
    Steps,
    /// Its owner's leave: it refuses this kind of work.
    Refused(Feature),
}

impl Offer {
    /// The first thing that is missing for `class`, if anything is.
    pub fn lacks(&self, class: &Class) -> Option<Lack> {
        if !self.models.contains(&class.group.model) {
            return Some(Lack::Model);
        }
        if !self.numerics.contains(&class.group.numerics) {
            return Some(Lack::Numerics);
        }
        let absent = |digest: &&AdapterDigest| !self.adapters.contains(digest);
        let adapters: Vec<AdapterDigest> = class.adapters.iter().filter(absent).copied().collect();
        if !adapters.is_empty() {
            return Some(Lack::Adapters(adapters));
        }
        class.lacks_leave(&self.acceptance, self.memory_bytes)
    }
}

/// What an owner lets in does not cover.
fn refuses(acceptance: &Acceptance, demand: &Demand) -> Option<Lack> {
    if acceptance.max_pixels.is_some_and(|most| demand.pixels > most) {
        return Some(Lack::Pixels);
    }
    if acceptance.max_steps.is_some_and(|most| demand.steps > most) {
        return Some(Lack::Steps);
    }
    acceptance.refused.intersection(&demand.features).next().copied().map(Lack::Refused)
}
