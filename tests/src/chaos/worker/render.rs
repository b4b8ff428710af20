//! Drawing a lease and uploading its pictures.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use seedfarm_core::{RecipeTemplate, canonical};
use seedfarm_proto::v1;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;

use crate::chaos::picture;
use crate::chaos::wire::{CALL, Wire};

/// Uploads at once.
const UPLOADS: usize = 4;

/// Draws every image of a lease, uploads the files, and gives the completion.
pub(super) async fn run(
    client: WorkerServiceClient<Wire>,
    grant: v1::Grant,
    pace: Duration,
) -> Result<v1::Complete> {
    let templates = grant.templates_json.iter().map(|json| RecipeTemplate::from_json(json));
    let templates: Arc<[RecipeTemplate]> = templates.collect::<Result<_, _>>()?;
    let took = pace * u32::try_from(grant.images.len())?;
    let drawing = stream::iter(grant.images)
        .map(|leased| image(client.clone(), Arc::clone(&templates), leased, pace))
        .buffered(UPLOADS)
        .try_collect();
    let (images, ()) = tokio::join!(drawing, tokio::time::sleep(took));
    Ok(v1::Complete {
        fence: grant.fence,
        job_id: grant.job_id,
        images: images?,
        fingerprint_json: canonical::to_string(&picture::fingerprint()),
        failure: None,
        log: String::new(),
    })
}

async fn image(
    client: WorkerServiceClient<Wire>,
    templates: Arc<[RecipeTemplate]>,
    leased: v1::LeasedImage,
    pace: Duration,
) -> Result<v1::RenderedImage> {
    let template = templates.get(leased.template as usize).context("a lease lacks a template")?;
    let recipe = template.clone().with_seed(leased.seed).digest();
    let drawn = picture::of(&recipe)?;
    let bytes = drawn.file.len() as u64;
    let artifact_digest = drawn.artifact.to_string();
    upload(client, artifact_digest.clone(), drawn.file).await?;
    Ok(v1::RenderedImage {
        index: leased.index,
        recipe_digest: recipe.to_string(),
        pixel_digest: drawn.pixels.to_string(),
        artifact_digest,
        artifact_bytes: bytes,
        duration_ms: (pace.as_millis() as u64).max(1),
        warnings: Vec::new(),
    })
}

async fn upload(mut client: WorkerServiceClient<Wire>, artifact_digest: String, file: Vec<u8>) -> Result<()> {
    let chunk = v1::Chunk { data: file };
    let request = v1::PutArtifactRequest { artifact_digest, chunk: Some(chunk) };
    let put = client.put_artifact(tokio_stream::once(request));
    tokio::time::timeout(CALL, put).await.context("an upload took too long")??;
    Ok(())
}
