//! Changing some terms of a job and leaving the others.

use serde_json::Value;

use super::JobTerms;
use crate::invalid::Invalid;

/// The terms that may be changed, by the names that people give.
pub const CHANGEABLE: [&str; 11] = [
    "urgency",
    "priority",
    "deadline_ms",
    "tags",
    "memory_bytes",
    "max_devices",
    "budget_ms",
    "max_failures",
    "min_image_ms",
    "after",
    "after_images",
];

impl JobTerms {
    /// These terms with `fields` taken from `other`, checked; and what that changes, in words.
    ///
    /// # Errors
    /// If a field is unknown, or a term is out of range.
    pub fn changed(&self, fields: &[String], other: &Self) -> Result<(Self, String), Invalid> {
        let mut terms = self.clone();
        for field in fields {
            terms.take(field, other)?;
        }
        terms.check()?;
        let words = CHANGEABLE.iter().filter_map(|field| {
            let (before, after) = (self.shown(field), terms.shown(field));
            (before != after).then(|| format!("{field} {before} -> {after}"))
        });
        let words = words.collect::<Vec<_>>().join(", ");
        Ok((terms, words))
    }

    fn take(&mut self, field: &str, other: &Self) -> Result<(), Invalid> {
        match field {
            "urgency" => self.urgency = other.urgency,
            "priority" => self.priority = other.priority,
            "deadline_ms" => self.deadline_ms = other.deadline_ms,
            "tags" => self.requirements.tags.clone_from(&other.requirements.tags),
            "memory_bytes" => self.requirements.memory_bytes = other.requirements.memory_bytes,
            "max_devices" => self.max_devices = other.max_devices,
            "budget_ms" => self.caps.budget_ms = other.caps.budget_ms,
            "max_failures" => self.caps.max_failures = other.caps.max_failures,
            "min_image_ms" => self.caps.min_image_ms = other.caps.min_image_ms,
            "after" => self.after.clone_from(&other.after),
            "after_images" => self.after_images.clone_from(&other.after_images),
            unknown => {
                return Err(Invalid::UnknownChoice {
                    field: "term",
                    given: unknown.to_owned(),
                    known: CHANGEABLE.join(", "),
                });
            }
        }
        Ok(())
    }

    /// A term as JSON writes it, wherever it stands; `-` for none.
    fn shown(&self, field: &str) -> String {
        let document = serde_json::to_value(self).unwrap_or_default();
        let places = [&document, &document["requirements"], &document["caps"]];
        match places.into_iter().find_map(|place| place.get(field)) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }
}
