//! Conversions between the wire and core. From the wire they can fail: then the status says why.

use seedfarm_core::completion::{FailureClass, Fence, Reception};
use seedfarm_core::owner::Feature;
use seedfarm_core::plan::{JobSpec, PromptLine};
use seedfarm_core::terms::Urgency;
use seedfarm_core::verdict::Difference;
use seedfarm_core::{Attempt, Epoch, JobState, LeaseId, NoiseSource, Numerics, SeedPolicy, Verdict};
use tonic::Status;

use crate::{error, v1};

mod acceptance;
mod settings;
mod terms;

macro_rules! same_names {
    ($wire:ident, $core:ident, $field:literal, $($name:ident),+) => {
        impl From<$core> for v1::$wire {
            fn from(value: $core) -> Self {
                match value { $($core::$name => Self::$name),+ }
            }
        }

        impl TryFrom<v1::$wire> for $core {
            type Error = Status;
            fn try_from(value: v1::$wire) -> Result<Self, Status> {
                match value {
                    v1::$wire::Unspecified => Err(error::missing($field)),
                    $(v1::$wire::$name => Ok(Self::$name)),+
                }
            }
        }
    };
}

same_names!(JobState, JobState, "the job's state", Active, Paused, Cancelled, Finished);
same_names!(Urgency, Urgency, "the urgency", Bulk, Interactive);
same_names!(Feature, Feature, "the kind of work", Pictures, Adapters, Controlnets, Bulk, Interactive);
same_names!(SeedPolicy, SeedPolicy, "seed_policy", Sequential, Derived, Fixed, Explicit);
same_names!(Numerics, Numerics, "numerics", Strict, Fast);
same_names!(FailureClass, FailureClass, "the failure's class", Task, Worker, Environment, HandedBack);
same_names!(Reception, Reception, "the reception", Accepted, Repeated, Stale, Divergent);

impl From<PromptLine> for v1::PromptLine {
    fn from(line: PromptLine) -> Self {
        Self {
            line: line.line as u64,
            prompt: line.prompt,
            seed: line.seed,
            settings: Some(line.settings.into()),
        }
    }
}

impl TryFrom<v1::PromptLine> for PromptLine {
    type Error = Status;
    fn try_from(wire: v1::PromptLine) -> Result<Self, Status> {
        Ok(Self {
            line: usize::try_from(wire.line).map_err(error::malformed)?,
            prompt: wire.prompt,
            seed: wire.seed,
            settings: wire.settings.unwrap_or_default().try_into()?,
        })
    }
}

/// Builds a submission of `model` from core's form.
pub fn submission(spec: JobSpec, model: String, idempotency_key: String) -> v1::SubmitJobRequest {
    v1::SubmitJobRequest {
        idempotency_key,
        name: spec.name,
        model,
        prompts: spec.prompts.into_iter().map(Into::into).collect(),
        count: spec.count,
        seed: spec.seed,
        seed_policy: v1::SeedPolicy::from(spec.seed_policy).into(),
        numerics: v1::Numerics::from(spec.numerics).into(),
        noise: spec.noise.as_str().to_owned(),
        settings: Some(spec.settings.into()),
        terms: Some(spec.terms.into()),
    }
}

impl TryFrom<v1::SubmitJobRequest> for JobSpec {
    type Error = Status;

    /// What a field leaves unspecified takes the default: sequential seeds, strict numerics, philox.
    fn try_from(wire: v1::SubmitJobRequest) -> Result<Self, Status> {
        let (seed_policy, numerics) = (wire.seed_policy(), wire.numerics());
        let noise = if wire.noise.is_empty() {
            Ok(NoiseSource::default())
        } else {
            NoiseSource::from_name(&wire.noise)
        };
        Ok(Self {
            name: wire.name,
            prompts: wire.prompts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            count: wire.count,
            seed: wire.seed,
            seed_policy: SeedPolicy::try_from(seed_policy).unwrap_or_default(),
            terms: wire.terms.unwrap_or_default().try_into()?,
            numerics: Numerics::try_from(numerics).unwrap_or_default(),
            noise: noise.map_err(|fault| error::invalid(&fault))?,
            settings: wire.settings.unwrap_or_default().try_into()?,
        })
    }
}

impl From<Fence> for v1::Fence {
    fn from(fence: Fence) -> Self {
        Self { lease_id: fence.lease.0, attempt: fence.attempt.0, epoch: fence.epoch.0 }
    }
}

impl From<v1::Fence> for Fence {
    fn from(wire: v1::Fence) -> Self {
        Self { lease: LeaseId(wire.lease_id), attempt: Attempt(wire.attempt), epoch: Epoch(wire.epoch) }
    }
}

/// The wire's form of a verdict, without what belongs to the second rendering.
pub fn outcome(verdict: &Verdict) -> v1::Outcome {
    let (difference, missing) = match verdict {
        Verdict::Exact => (None, None),
        Verdict::Equivalent { difference } => (Some(*difference), None),
        Verdict::Different { difference } => (*difference, None),
        Verdict::Unverifiable { missing } => (None, Some(missing.clone())),
    };
    v1::Outcome {
        verdict: verdict.as_str().to_owned(),
        psnr_db: difference.and_then(|d: Difference| d.psnr_db),
        max_channel: difference.map(|d| u32::from(d.max_channel)),
        pixels: difference.map(|d| d.pixels),
        missing,
        ..v1::Outcome::default()
    }
}

#[cfg(test)]
mod tests {
    use seedfarm_core::plan::Settings;
    use seedfarm_core::terms::{Caps, Requirements};
    use seedfarm_core::{JobId, JobTerms, Sampler};

    use super::*;

    fn spec() -> JobSpec {
        JobSpec {
            name: "n".into(),
            prompts: vec![PromptLine {
                line: 3,
                prompt: "a red apple".into(),
                seed: Some(u64::MAX),
                settings: Settings { steps: Some(5), sampler: Some(Sampler::Euler), ..Settings::default() },
            }],
            count: 2,
            seed: u64::MAX,
            seed_policy: SeedPolicy::Explicit,
            terms: terms(),
            numerics: Numerics::Fast,
            noise: NoiseSource::Philox,
            settings: Settings { guidance: Some(3.5), ..every_setting() },
        }
    }

    fn terms() -> JobTerms {
        let job = |n: u128| format!("job_{n:032x}").parse::<JobId>().unwrap();
        JobTerms {
            tenant: "team".parse().unwrap(),
            urgency: Urgency::Interactive,
            priority: -3,
            deadline_ms: Some(7),
            requirements: Requirements { tags: vec!["pool:night".parse().unwrap()], memory_bytes: 9 },
            max_devices: Some(2),
            caps: Caps { budget_ms: Some(1), max_failures: Some(0), min_image_ms: Some(3) },
            after: vec![job(1)],
            after_images: vec![job(2), job(3)],
        }
    }

    fn every_setting() -> Settings {
        let image = "ab".repeat(32);
        let text = format!(
            r#"{{"negative_prompt": "n", "prompt_syntax": "weighted", "width": 8, "height": 16, "steps": 3,
                "guidance": 2, "guidance_rescale": 0.5, "sampler": "euler_a", "eta": 0.25, "schedule": "karras", "clip_skip": 2,
                "loras": [{{"name": "a", "weight": 0.5, "text_weight": -1}}, {{"name": "b"}}],
                "embeddings": ["cat"], "variation": {{"seed": "18446744073709551615", "strength": 0.1}},
                "source": {{"image": "{image}", "strength": 0.5, "mask": "{image}"}},
                "controls": [{{"name": "c", "image": "{image}", "scale": 2, "start": 0.1, "end": 0.9}}],
                "decode_tile": 512}}"#
        );
        Settings::from_json(serde_json::from_str(&text).unwrap()).unwrap()
    }

    #[test]
    fn a_submission_survives_the_wire() {
        let wire = submission(spec(), "m".into(), "key".into());
        assert_eq!((wire.model.as_str(), wire.idempotency_key.as_str()), ("m", "key"));
        assert_eq!(JobSpec::try_from(wire).unwrap(), spec());
    }

    #[test]
    fn an_unknown_sampler_on_the_wire_is_refused_with_the_list() {
        let mut wire = submission(spec(), "m".into(), "key".into());
        wire.prompts[0].settings.as_mut().unwrap().sampler = Some("best".into());
        let status = JobSpec::try_from(wire).unwrap_err();
        assert_eq!(error::reason_of(&status).as_deref(), Some("UNKNOWN_CHOICE"));
        assert!(status.message().contains("'best'"));
    }

    #[test]
    fn an_unspecified_state_is_refused() {
        assert!(JobState::try_from(v1::JobState::Unspecified).is_err());
        assert_eq!(JobState::try_from(v1::JobState::Paused).unwrap(), JobState::Paused);
    }
}
