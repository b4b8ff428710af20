//! Starting a replay: a one-image job, or a verdict at once where nothing can be rendered.

use seedfarm_core::plan::{JobPlan, PlannedLine, SeedPlan};
use seedfarm_core::terms::Urgency;
use seedfarm_core::{
    AdapterDigest, JobId, JobTerms, ModelManifest, Recipe, RecipeTemplate, ReplayId, SeedPolicy, Verdict,
    limits,
};
use seedfarm_proto::error;
use seedfarm_proto::v1::{self, create_replay_request};
use seedfarm_store::{NewJob, NewReplay, Outlook};
use tonic::Status;
use uuid::Uuid;

use super::original::{self, Original};
use crate::farm::Farm;
use crate::services::jobs::seat;
use crate::{catalogue, faults, wire};

pub(super) async fn create(farm: &Farm, request: v1::CreateReplayRequest) -> Result<v1::Replay, Status> {
    let original = match request.original {
        Some(create_replay_request::Original::ImageId(id)) => original::ours(farm, &id).await?,
        Some(create_replay_request::Original::Foreign(image)) => original::foreign(farm, image).await?,
        None => return Err(error::missing("an image id or a foreign image")),
    };
    let id = ReplayId::from_uuid(Uuid::now_v7());
    let avoid = original.worker.into_iter().collect();
    let outlook = outlook(farm, id, &original).await?;
    let new = NewReplay {
        id,
        original: original.image,
        recipe: original.recipe_digest,
        recipe_json: original.recipe_json,
        expected_pixels: original.pixels,
        expected_artifact: original.artifact,
        original_worker: original.worker,
        original_fingerprint: original.fingerprint,
        outlook,
    };
    let (row, job) = farm.store.insert_replay(farm.epoch(), &new).await.map_err(faults::of_store)?;
    if let Some(job) = job {
        seat(farm, job, avoid).await?;
        farm.wake.notify_one();
    }
    Ok(wire::replay(&row))
}

/// What the replay comes to: the recipe must be readable, and all that it names known.
async fn outlook(farm: &Farm, id: ReplayId, original: &Original) -> Result<Outlook, Status> {
    let recipe = match &original.recipe {
        Ok(recipe) => recipe,
        Err(fault) => return Ok(gone(fault.to_string())),
    };
    let digest = recipe.template.model_digest();
    let manifest = farm.store.model(&digest.to_string()).await.map_err(faults::of_store)?;
    let Some(manifest) = manifest else {
        return Ok(gone(format!("the model {digest} is not known to this farm: start a worker that has it")));
    };
    Ok(match missing_part(farm, &recipe.template).await? {
        Some(missing) => gone(missing),
        None => Outlook::Rendered(Box::new(one_image(id, recipe.clone(), manifest))),
    })
}

/// What the recipe needs besides its model and the farm does not have.
async fn missing_part(farm: &Farm, template: &RecipeTemplate) -> Result<Option<String>, Status> {
    let unknown = farm.store.unknown_adapters(&template.adapters()).await.map_err(faults::of_store)?;
    if let Some(digest) = unknown.first() {
        let kind = kind_of(template, digest);
        return Ok(Some(format!(
            "the {kind} {digest} is not known to this farm: start a worker that has it"
        )));
    }
    let named = template.pictures();
    let there = catalogue::pictures(farm, named.clone()).await?;
    let missing = named.iter().find(|digest| !there.contains_key(digest));
    Ok(missing.map(|digest| {
        format!("the picture {digest} is not on this farm: upload it, with `seedfarm upload FILE`")
    }))
}

/// As what a recipe names an adapter.
fn kind_of(template: &RecipeTemplate, digest: &AdapterDigest) -> &'static str {
    let extras = &template.extras;
    if extras.loras.iter().any(|lora| lora.digest == *digest) {
        return "LoRA";
    }
    if extras.controls.iter().any(|control| control.model == *digest) { "ControlNet" } else { "embedding" }
}

fn gone(missing: String) -> Outlook {
    Outlook::Judged(Verdict::Unverifiable { missing })
}

/// The job that renders one recipe. It goes before other jobs: somebody waits for the verdict.
fn one_image(id: ReplayId, recipe: Recipe, manifest: ModelManifest) -> (NewJob, JobPlan) {
    let job = NewJob {
        id: JobId::from_uuid(Uuid::now_v7()),
        idempotency_key: id.to_string(),
        name: format!("replay of {}", recipe.digest().short()),
        manifest,
        numerics: recipe.template.numerics,
        terms: JobTerms {
            urgency: Urgency::Interactive,
            priority: limits::MAX_PRIORITY,
            ..JobTerms::default()
        },
        is_replay: true,
    };
    let seeds = SeedPlan { seed: recipe.seed, policy: SeedPolicy::Explicit, count: 1 };
    let line = PlannedLine { template: recipe.template, seed: Some(recipe.seed) };
    (job, JobPlan { total: 1, seeds, lines: vec![line] })
}
