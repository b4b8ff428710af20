//! One row of jobs, as columns and as core's types.

use seedfarm_core::owner::Feature;
use seedfarm_core::placement::Demand;
use seedfarm_core::plan::SeedPlan;
use seedfarm_core::terms::{Caps, Hold, Requirements, Urgency};
use seedfarm_core::{
    AdapterDigest, ImageRange, JobId, JobState, JobTerms, ModelDigest, Numerics, SeedPolicy,
};
use uuid::Uuid;

use crate::error::{Result, StoreError};
use crate::value::{natural, small};

/// One job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its name for people.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// Whether this is the one-image job of a replay.
    pub is_replay: bool,
    /// The model's name at submission.
    pub model_name: String,
    /// The model.
    pub model_digest: ModelDigest,
    /// The class of arithmetic.
    pub numerics: Numerics,
    /// Adapters that a worker must have for it, each once, in ascending order.
    pub needs: Vec<AdapterDigest>,
    /// Images asked for.
    pub total: u64,
    /// Images below this have been leased at least once.
    pub cursor: u64,
    /// How images get their seeds.
    pub seeds: SeedPlan,
    /// What it asks of the farm.
    pub terms: JobTerms,
    /// What it asks of a device's owner, whatever its urgency.
    pub demand: Demand,
    /// Why it is paused, where it is.
    pub hold: Option<Hold>,
    /// When it was submitted, in milliseconds since 1970-01-01 UTC.
    pub created_at_ms: i64,
    /// When it became final, in milliseconds since 1970-01-01 UTC.
    pub finished_at_ms: Option<i64>,
    /// Images with a result.
    pub done: u64,
    /// Images given up.
    pub failed: u64,
    /// Device time that its images took, in milliseconds.
    pub device_ms: u64,
}

impl JobRow {
    /// Images that were never leased.
    pub fn fresh(&self) -> Option<ImageRange> {
        ImageRange::new(self.cursor, self.total)
    }
}

/// A job as its columns hold it.
pub(crate) struct RawJob {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) is_replay: bool,
    pub(crate) model_name: String,
    pub(crate) model_digest: [u8; 32],
    pub(crate) numerics: String,
    pub(crate) needs: Vec<Vec<u8>>,
    pub(crate) total: i64,
    pub(crate) cursor: i64,
    pub(crate) seed: i64,
    pub(crate) seed_policy: String,
    pub(crate) count: i32,
    pub(crate) tenant: String,
    pub(crate) urgency: String,
    pub(crate) priority: i32,
    pub(crate) deadline_ms: Option<i64>,
    pub(crate) tags: Vec<String>,
    pub(crate) memory_bytes: i64,
    pub(crate) max_devices: Option<i32>,
    pub(crate) budget_ms: Option<i64>,
    pub(crate) max_failures: Option<i64>,
    pub(crate) min_image_ms: Option<i64>,
    pub(crate) after: Vec<Uuid>,
    pub(crate) after_images: Vec<Uuid>,
    pub(crate) pixels: i64,
    pub(crate) steps: i32,
    pub(crate) features: Vec<String>,
    pub(crate) hold: Option<String>,
    pub(crate) created_at_ms: i64,
    pub(crate) finished_at_ms: Option<i64>,
    pub(crate) done: i64,
    pub(crate) failed: i64,
    pub(crate) device_ms: i64,
}

impl TryFrom<RawJob> for JobRow {
    type Error = StoreError;
    fn try_from(raw: RawJob) -> Result<Self> {
        let state = JobState::from_name(&raw.state);
        let (terms, demand) = (terms(&raw)?, demand(&raw)?);
        Ok(Self {
            id: JobId::from_uuid(raw.id),
            name: raw.name,
            state: state.ok_or_else(|| StoreError::unreadable("the state", &raw.state))?,
            is_replay: raw.is_replay,
            model_name: raw.model_name,
            model_digest: ModelDigest::from_bytes(raw.model_digest),
            numerics: Numerics::from_name(&raw.numerics)?,
            needs: raw.needs.iter().map(|digest| adapter(digest)).collect::<Result<_>>()?,
            total: natural(raw.total)?,
            cursor: natural(raw.cursor)?,
            seeds: SeedPlan {
                seed: raw.seed.cast_unsigned(),
                policy: SeedPolicy::from_name(&raw.seed_policy)?,
                count: small(raw.count)?,
            },
            terms,
            demand,
            hold: raw.hold.as_deref().map(hold).transpose()?,
            created_at_ms: raw.created_at_ms,
            finished_at_ms: raw.finished_at_ms,
            done: natural(raw.done)?,
            failed: natural(raw.failed)?,
            device_ms: natural(raw.device_ms)?,
        })
    }
}

fn adapter(bytes: &[u8]) -> Result<AdapterDigest> {
    let digest = <[u8; 32]>::try_from(bytes).map(AdapterDigest::from_bytes);
    digest.map_err(|_| StoreError::unreadable("the digest of an adapter", format!("{bytes:02x?}")))
}

fn terms(raw: &RawJob) -> Result<JobTerms> {
    let jobs = |ids: &[Uuid]| ids.iter().copied().map(JobId::from_uuid).collect();
    let tags = raw.tags.iter().map(|tag| tag.parse()).collect::<std::result::Result<_, _>>()?;
    Ok(JobTerms {
        tenant: raw.tenant.parse()?,
        urgency: Urgency::from_name(&raw.urgency)?,
        priority: raw.priority,
        deadline_ms: raw.deadline_ms,
        requirements: Requirements { tags, memory_bytes: natural(raw.memory_bytes)? },
        max_devices: raw.max_devices.map(small).transpose()?,
        caps: Caps {
            budget_ms: raw.budget_ms.map(natural).transpose()?,
            max_failures: raw.max_failures.map(natural).transpose()?,
            min_image_ms: raw.min_image_ms.map(natural).transpose()?,
        },
        after: jobs(&raw.after),
        after_images: jobs(&raw.after_images),
    })
}

fn demand(raw: &RawJob) -> Result<Demand> {
    let feature = |name: &String| {
        Feature::from_name(name).ok_or_else(|| StoreError::unreadable("the kind of work", name))
    };
    Ok(Demand {
        pixels: natural(raw.pixels)?,
        steps: small(raw.steps)?,
        features: raw.features.iter().map(feature).collect::<Result<_>>()?,
    })
}

fn hold(name: &str) -> Result<Hold> {
    Hold::from_name(name).ok_or_else(|| StoreError::unreadable("why a job is paused", name))
}

/// A query for jobs `j`: the statement's name, its tail from `WHERE` on, and its arguments.
macro_rules! select_jobs {
    ($name:literal, $tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            $crate::jobs::RawJob,
            "-- " + $name + r#"
            SELECT j.id, j.name, j.state, j.is_replay, j.model_name,
                j.model_digest AS "model_digest: [u8; 32]", j.numerics, j.needs, j.total, c.next AS cursor,
                j.seed, j.seed_policy, j.count, j.tenant, j.urgency, j.priority, j.deadline_ms, j.tags,
                j.memory_bytes, j.max_devices, j.budget_ms, j.max_failures, j.min_image_ms, j.after,
                j.after_images, j.pixels, j.steps, j.features, j.hold,
                (extract(epoch FROM j.created_at) * 1000)::bigint AS "created_at_ms!",
                (extract(epoch FROM j.finished_at) * 1000)::bigint AS finished_at_ms,
                p.done, p.failed, p.device_ms
            FROM jobs j JOIN job_cursors c ON c.job_id = j.id JOIN job_progress p ON p.job_id = j.id "#
                + $tail
            $(, $argument)*
        )
    };
}
pub(crate) use select_jobs;
