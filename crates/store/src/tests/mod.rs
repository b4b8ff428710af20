//! The store against a real PostgreSQL. Each test has a database of its own.

mod completing;
mod concurrency;
mod control;
mod jobs;
mod logs;
mod materials;
mod packages;
mod proxy;
mod reading;
mod reign;
mod simulation;
mod twins;

use std::collections::BTreeMap;
use std::time::Duration;

use seedfarm_core::completion::{FailureClass, Fence};
use seedfarm_core::model::ModelDefaults;
use seedfarm_core::placement::Source;
use seedfarm_core::plan::{JobPlan, JobSpec, PromptLine, Settings, plan};
use seedfarm_core::sampling::{BetaCurve, Prediction, Spacing};
use seedfarm_core::{
    ArtifactDigest, Attempt, ComponentDigest, Epoch, Fingerprint, ImageRange, JobId, JobTerms, ModelManifest,
    NoiseSchedule, NoiseSource, Numerics, PixelDigest, Sampler, SeedPolicy, WorkerId,
};
use uuid::Uuid;

use crate::testing::TestDatabase;
use crate::{
    Claim, Completion, CompletionOutcome, Failure, JobRow, NewJob, NewResult, NewWorker, RangeRow, Reign,
    Store, StoredFingerprint, check,
};

/// A database under one reign, with two workers.
pub(super) struct Farm {
    pub(super) store: Store,
    pub(super) reign: Reign,
    pub(super) fingerprint: StoredFingerprint,
    pub(super) database: TestDatabase,
}

/// A job with the plan that made it.
pub(super) struct Planned {
    pub(super) row: JobRow,
    pub(super) plan: JobPlan,
}

impl Farm {
    pub(super) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = Store::open(database.options(), 8).await.unwrap();
        let reign = store.take_over().await.unwrap();
        let fingerprint = store.put_fingerprint(&fingerprint("cpu", Numerics::Strict)).await.unwrap();
        for number in 1..=2 {
            let name = format!("worker {number}");
            let new = NewWorker { id: worker(number), name, version: "0.1.0".into() };
            store.upsert_worker(&new).await.unwrap();
        }
        Self { store, reign, fingerprint, database }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.reign.epoch()
    }

    /// Stores a job of one line with `images` images.
    pub(super) async fn job(&self, number: u128, images: u32) -> Planned {
        let plan = plan_of(&["a red apple"], images);
        let inserted = self.store.insert_job(self.epoch(), &new_job(number), &plan).await.unwrap();
        assert!(!inserted.repeated);
        Planned { row: inserted.job, plan }
    }

    /// Leases fresh images of a job to worker 1.
    pub(super) async fn lease(&self, job: JobId, lo: u64, hi: u64) -> Fence {
        self.claim_one(fresh(job, lo, hi)).await.unwrap()
    }

    /// Leases a stored range whole, to worker 1.
    pub(super) async fn lease_again(&self, row: &RangeRow) -> Fence {
        self.claim_one(again(row)).await.unwrap()
    }

    pub(super) async fn claim_one(&self, claim: Claim) -> Option<Fence> {
        let leases = self.store.claim(self.epoch(), std::slice::from_ref(&claim)).await.unwrap();
        leases[0].map(|lease| Fence { lease, attempt: claim.attempt, epoch: self.epoch() })
    }

    /// What worker 1 sends when it has rendered `indices` of a lease.
    pub(super) fn completion(
        &self,
        job: &Planned,
        fence: Fence,
        indices: impl IntoIterator<Item = u64>,
    ) -> Completion {
        Completion {
            fence,
            job: job.row.id,
            worker: worker(1),
            fingerprint: self.fingerprint,
            images: indices.into_iter().map(|index| image(&job.plan, index)).collect(),
            failure: None,
        }
    }

    pub(super) async fn complete_one(&self, completion: Completion) -> CompletionOutcome {
        let settled = self.store.complete(self.epoch(), &[completion]).await.unwrap();
        settled.outcomes.into_iter().next().unwrap()
    }

    pub(super) async fn row(&self, job: JobId) -> JobRow {
        self.store.job(job).await.unwrap().unwrap()
    }

    pub(super) async fn assert_sound(&self) {
        assert_eq!(check(&self.store).await.unwrap(), []);
    }

    /// Counts rows, past the store's own reading.
    pub(super) async fn count(&self, table: &'static str) -> i64 {
        let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(statement).fetch_one(&self.store.pool).await.unwrap()
    }
}

pub(super) fn worker(number: u128) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(0x1000 + number))
}

pub(super) fn job_id(number: u128) -> JobId {
    JobId::from_uuid(Uuid::from_u128(number))
}

pub(super) fn range(lo: u64, hi: u64) -> ImageRange {
    ImageRange::new(lo, hi).unwrap()
}

pub(super) fn failure(class: FailureClass) -> Option<Failure> {
    Some(Failure { class, error: format!("a fault of the {}", class.as_str()), defer: Duration::ZERO })
}

pub(super) fn fresh(job: JobId, lo: u64, hi: u64) -> Claim {
    Claim {
        job,
        range: range(lo, hi),
        attempt: Attempt(1),
        worker: worker(1),
        device: 0,
        avoid: Vec::new(),
        source: Source::Fresh,
    }
}

pub(super) fn again(row: &RangeRow) -> Claim {
    Claim {
        job: row.job,
        range: row.retry.range,
        attempt: Attempt(row.retry.spent + 1),
        worker: worker(1),
        device: 0,
        avoid: row.retry.avoid.clone(),
        source: Source::Retry { row: row.retry.row, rest: None },
    }
}

pub(super) fn fingerprint(backend: &str, numerics: Numerics) -> Fingerprint {
    Fingerprint {
        numerics,
        engine_revision: 1,
        backend: backend.into(),
        architecture: "x86_64+avx2+fma".into(),
        precision: "f32".into(),
        libraries: BTreeMap::new(),
        device_name: "a device".into(),
    }
}

pub(super) fn manifest(name: &str, weights: &str) -> ModelManifest {
    let component = ComponentDigest::of_bytes(weights.as_bytes());
    ModelManifest {
        name: name.into(),
        family: "stable-diffusion".into(),
        components: BTreeMap::from([("unet".to_owned(), component)]),
        noise_schedule: NoiseSchedule {
            train_steps: 1000,
            beta_start: 0.000_85,
            beta_end: 0.012,
            beta_curve: BetaCurve::ScaledLinear,
            prediction: Prediction::Epsilon,
            spacing: Spacing::Trailing,
            steps_offset: 0,
            set_alpha_to_one: true,
            ..NoiseSchedule::default()
        },
        defaults: ModelDefaults { width: 64, height: 64, steps: 7, guidance: 7.3, sampler: Sampler::Ddim },
        size_multiple: 8,
        max_side: 512,
        inpainting: false,
        weights_bytes: u64::MAX >> 11,
        licence: Some("CC0-1.0".into()),
    }
}

pub(super) fn spec_of(prompts: &[&str], count: u32) -> JobSpec {
    let line = |(at, prompt): (usize, &&str)| PromptLine {
        line: at + 1,
        prompt: (*prompt).to_owned(),
        seed: None,
        settings: Settings::default(),
    };
    JobSpec {
        name: "apples".into(),
        prompts: prompts.iter().enumerate().map(line).collect(),
        count,
        seed: u64::MAX - 1,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms { priority: 3, ..JobTerms::default() },
        numerics: Numerics::Strict,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    }
}

pub(super) fn plan_of(prompts: &[&str], count: u32) -> JobPlan {
    plan(&spec_of(prompts, count), &manifest("emoji", "v1")).unwrap()
}

pub(super) fn new_job(number: u128) -> NewJob {
    NewJob {
        id: job_id(number),
        idempotency_key: format!("key {number}"),
        name: "apples".into(),
        manifest: manifest("emoji", "v1"),
        numerics: Numerics::Strict,
        terms: JobTerms { priority: 3, ..JobTerms::default() },
        is_replay: false,
    }
}

/// An image as an honest worker makes it: its pixels follow from its recipe.
pub(super) fn image(plan: &JobPlan, index: u64) -> NewResult {
    let recipe = plan.recipe(index).unwrap();
    let digest = recipe.digest();
    NewResult {
        index,
        seed: recipe.seed,
        template: recipe.template.digest(),
        recipe: digest,
        pixels: PixelDigest::of_bytes(digest.as_bytes()),
        artifact: ArtifactDigest::of_bytes(digest.as_bytes()),
        artifact_bytes: 1234,
        duration_ms: 50,
        warnings: Vec::new(),
    }
}
