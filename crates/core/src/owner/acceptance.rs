//! Which work a worker takes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::limits::{Limits, LimitsFault, at_most};
use crate::limits::{MAX_TAGS, MAX_TENANTS_FIRST};
use crate::recipe::RecipeTemplate;
use crate::terms::{Tag, TenantName};

/// A kind of work that a worker may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feature {
    /// Images that start from a picture, or fill in a part of one.
    Pictures,
    /// Images with LoRAs or learned words.
    Adapters,
    /// Images that follow pictures.
    Controlnets,
    /// Jobs for which nobody waits.
    Bulk,
    /// Jobs for which somebody waits.
    Interactive,
}

impl Feature {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Pictures, Self::Adapters, Self::Controlnets, Self::Bulk, Self::Interactive];

    /// The name in files and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pictures => "pictures",
            Self::Adapters => "adapters",
            Self::Controlnets => "controlnets",
            Self::Bulk => "bulk",
            Self::Interactive => "interactive",
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.as_str() == name)
    }
}

/// What a worker tells the coordinator of the work that it takes. Models are not in it: a worker announces
/// only those that it accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// Most pixels of an image, width times height.
    pub max_pixels: Option<u64>,
    /// Most sampling steps of an image.
    pub max_steps: Option<u32>,
    /// Kinds of work that it refuses.
    pub refused: BTreeSet<Feature>,
    /// Tenants whose jobs go first here, the first before the others.
    pub prefer_tenants: Vec<TenantName>,
    /// Words that it bears.
    pub tags: BTreeSet<Tag>,
}

impl Acceptance {
    /// Holds the lists against their limits.
    ///
    /// # Errors
    /// The first list that is too long.
    pub fn check(&self) -> Result<(), LimitsFault> {
        at_most("tags", self.tags.len(), MAX_TAGS)?;
        at_most("prefer_tenants", self.prefer_tenants.len(), MAX_TENANTS_FIRST)
    }

    /// Why images of a template are not taken; `None` when they are. Whether somebody waits for them is not
    /// in a template, and left to whoever grants.
    pub fn refuses(&self, template: &RecipeTemplate) -> Option<String> {
        let (pixels, steps) = (u64::from(template.width) * u64::from(template.height), template.steps());
        if let Some(most) = self.max_pixels.filter(|&most| pixels > most) {
            return Some(format!("{pixels} pixels are more than the {most} that the worker's owner allows"));
        }
        if let Some(most) = self.max_steps.filter(|&most| steps > most) {
            return Some(format!("{steps} steps are more than the {most} that the worker's owner allows"));
        }
        let feature = features(template).find(|feature| self.refused.contains(feature))?;
        Some(format!("the worker's owner refuses work with {}", feature.as_str()))
    }
}

/// The kinds of work that images of a template are.
pub(crate) fn features(template: &RecipeTemplate) -> impl Iterator<Item = Feature> {
    let extras = &template.extras;
    let adapters = !extras.loras.is_empty() || !extras.embeddings.is_empty();
    let of = [
        (Feature::Pictures, extras.source.is_some()),
        (Feature::Adapters, adapters),
        (Feature::Controlnets, !extras.controls.is_empty()),
    ];
    of.into_iter().filter_map(|(feature, is)| is.then_some(feature))
}

impl Limits {
    /// What the coordinator is told.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance {
            max_pixels: self.jobs.max_pixels,
            max_steps: self.jobs.max_steps,
            refused: self.jobs.refuse.iter().copied().collect(),
            prefer_tenants: self.own_jobs_first.clone(),
            tags: self.tags.iter().cloned().collect(),
        }
    }

    /// Whether the owner takes work with a model, by its name or its digest in hexadecimal.
    pub fn accepts_model(&self, name: &str, digest: &str) -> bool {
        let named = |patterns: &[super::Pattern]| {
            patterns.iter().any(|pattern| pattern.matches(name) || pattern.matches(digest))
        };
        let accepted = self.models.accept.is_empty() || named(&self.models.accept);
        accepted && !named(&self.models.refuse)
    }
}
