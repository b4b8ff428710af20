//! `POST /jobs`: a submission as JSON.

use std::collections::BTreeSet;

use axum::Json;
use axum::http::HeaderMap;
use seedfarm_core::plan::{JobSpec, PromptLine, Settings};
use seedfarm_core::terms::{Caps, Requirements, Tag, TenantName, Urgency};
use seedfarm_core::{Invalid, JobId, JobTerms, NoiseSource, Numerics, SeedPolicy, prompt_file, seed};
use seedfarm_proto::{convert, json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, whole};
use crate::caller::Caller;
use crate::error::ApiError;

/// The header under which a caller may send a submission twice and have one job.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A submission; what is left open takes the same defaults as on the command line.
#[derive(Deserialize)]
pub(crate) struct Submission {
    model: String,
    /// Texts, or objects as the lines of a prompt file have them.
    prompts: Vec<Value>,
    #[serde(default)]
    name: String,
    #[serde(default = "one")]
    count: u32,
    #[serde(default, with = "seed::as_text")]
    seed: u64,
    seed_policy: Option<String>,
    /// What it asks of the farm.
    #[serde(flatten)]
    terms: Terms,
    numerics: Option<String>,
    noise: Option<String>,
    /// Settings for all prompts, as the lines of a prompt file have them.
    #[serde(flatten)]
    settings: Map<String, Value>,
}

/// Terms as JSON has them; the names are those of the command line's `--json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Terms {
    tenant: TenantName,
    urgency: Urgency,
    priority: i32,
    deadline_ms: Option<i64>,
    tags: BTreeSet<Tag>,
    memory_bytes: u64,
    max_devices: Option<u32>,
    budget_ms: Option<u64>,
    max_failures: Option<u64>,
    min_image_ms: Option<u64>,
    after: Vec<JobId>,
    after_images: Vec<JobId>,
}

impl Terms {
    fn into_terms(self) -> JobTerms {
        JobTerms {
            tenant: self.tenant,
            urgency: self.urgency,
            priority: self.priority,
            deadline_ms: self.deadline_ms,
            requirements: Requirements {
                tags: self.tags.into_iter().collect(),
                memory_bytes: self.memory_bytes,
            },
            max_devices: self.max_devices,
            caps: Caps {
                budget_ms: self.budget_ms,
                max_failures: self.max_failures,
                min_image_ms: self.min_image_ms,
            },
            after: self.after,
            after_images: self.after_images,
        }
    }
}

fn one() -> u32 {
    1
}

pub(crate) async fn submit(caller: Caller, headers: HeaderMap, body: String) -> Answer {
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok());
    let Some(key) = key.map(str::to_owned) else {
        return Err(ApiError::bad_request(
            "the request lacks the header Idempotency-Key: send any text of your own, and the same one when you try again",
        ));
    };
    let submission: Submission = serde_json::from_str(&body).map_err(ApiError::bad_request)?;
    let model = submission.model.clone();
    let request = convert::submission(submission.into_spec()?, model, key);
    let answer = caller.jobs().submit_job(request).await?.into_inner();
    Ok(Json(json!({ "job": whole(answer.job, json::job), "repeated": answer.repeated })))
}

impl Submission {
    fn into_spec(self) -> Result<JobSpec, Invalid> {
        let prompts = self.prompts.iter().enumerate().map(|(i, prompt)| prompt_line(i + 1, prompt));
        Ok(JobSpec {
            name: self.name,
            prompts: prompts.collect::<Result<_, _>>()?,
            count: self.count,
            seed: self.seed,
            seed_policy: named(self.seed_policy, SeedPolicy::from_name)?.unwrap_or_default(),
            terms: self.terms.into_terms(),
            numerics: named(self.numerics, Numerics::from_name)?.unwrap_or_default(),
            noise: named(self.noise, NoiseSource::from_name)?.unwrap_or_default(),
            settings: Settings::from_json(self.settings)?,
        })
    }
}

fn named<T>(name: Option<String>, parse: impl Fn(&str) -> Result<T, Invalid>) -> Result<Option<T>, Invalid> {
    name.as_deref().map(parse).transpose()
}

/// Reads the `line`-th entry of `prompts` (from 1).
fn prompt_line(line: usize, prompt: &Value) -> Result<PromptLine, Invalid> {
    match prompt {
        Value::String(text) => {
            Ok(PromptLine { line, prompt: text.clone(), seed: None, settings: Settings::default() })
        }
        other => prompt_file::parse_entry(&other.to_string(), line).map_err(|fault| fault.at_line(line)),
    }
}
