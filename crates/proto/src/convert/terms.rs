//! A job's terms on the wire.

use seedfarm_core::terms::{Caps, JobTerms, Requirements, Tag, TenantName, Urgency};
use seedfarm_core::{Invalid, JobId};
use tonic::Status;

use crate::{error, v1};

impl From<JobTerms> for v1::Terms {
    fn from(terms: JobTerms) -> Self {
        let ids = |jobs: Vec<JobId>| jobs.iter().map(JobId::to_string).collect();
        Self {
            tenant: terms.tenant.to_string(),
            urgency: v1::Urgency::from(terms.urgency).into(),
            priority: terms.priority,
            deadline_ms: terms.deadline_ms,
            tags: terms.requirements.tags.iter().map(Tag::to_string).collect(),
            memory_bytes: terms.requirements.memory_bytes,
            max_devices: terms.max_devices,
            budget_ms: terms.caps.budget_ms,
            max_failures: terms.caps.max_failures,
            min_image_ms: terms.caps.min_image_ms,
            after: ids(terms.after),
            after_images: ids(terms.after_images),
        }
    }
}

impl TryFrom<v1::Terms> for JobTerms {
    type Error = Status;

    /// What is left unspecified is ordinary: the default tenant, bulk, no limits.
    fn try_from(wire: v1::Terms) -> Result<Self, Status> {
        let urgency = Urgency::try_from(wire.urgency()).unwrap_or_default();
        Ok(Self {
            tenant: tenant(&wire.tenant)?,
            urgency,
            priority: wire.priority,
            deadline_ms: wire.deadline_ms,
            requirements: Requirements { tags: tags(&wire.tags)?, memory_bytes: wire.memory_bytes },
            max_devices: wire.max_devices,
            caps: Caps {
                budget_ms: wire.budget_ms,
                max_failures: wire.max_failures,
                min_image_ms: wire.min_image_ms,
            },
            after: jobs(&wire.after)?,
            after_images: jobs(&wire.after_images)?,
        })
    }
}

/// A tenant's name; nothing names the default one.
fn tenant(name: &str) -> Result<TenantName, Status> {
    if name.is_empty() {
        return Ok(TenantName::default());
    }
    name.parse().map_err(|fault| error::invalid(&fault))
}

/// Tags, each once, in ascending order.
fn tags(texts: &[String]) -> Result<Vec<Tag>, Status> {
    let tags: Result<Vec<Tag>, Invalid> = texts.iter().map(|text| text.parse()).collect();
    let mut tags = tags.map_err(|fault| error::invalid(&fault))?;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

fn jobs(texts: &[String]) -> Result<Vec<JobId>, Status> {
    texts.iter().map(|text| text.parse().map_err(error::malformed)).collect()
}
