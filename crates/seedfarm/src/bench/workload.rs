//! What the benchmarks of a coordinator share: the picture that stands for all, the jobs, the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use anyhow::{Context, Result};
use seedfarm_core::plan::{JobSpec, PromptLine, Settings};
use seedfarm_core::{
    ArtifactDigest, JobTerms, ModelManifest, NoiseSource, Numerics, SeedPolicy, WorkerId, canonical,
};
use seedfarm_engine::DeviceSpec;
use seedfarm_picture::Picture;
use seedfarm_proto::{convert, v1};
use seedfarm_runtime::secret;
use tokio::task::JoinSet;

use super::process::Coordinator;
use super::session::{self, Counted, Terms};
use crate::args::ModelArgs;
use crate::args::TimingArgs;
use crate::args::models::choose;
use crate::client::Farm;
use crate::commands::submit;

/// The manifest of a model on this machine: nothing is rendered with it.
///
/// # Errors
/// If there is none.
pub(super) async fn manifest(models: &ModelArgs) -> Result<ModelManifest> {
    let models = models.clone();
    Ok(tokio::task::spawn_blocking(move || choose(&models, None)).await??.manifest)
}

/// What the workers share, with the one picture file stored. They say that images take so long that a lease
/// holds `lease` of them.
///
/// # Errors
/// If the coordinator does not take the file.
pub(super) async fn terms(
    coordinator: &Coordinator,
    manifest: &ModelManifest,
    lease: u32,
    credits: u32,
) -> Result<Terms> {
    let fingerprint = seedfarm_engine::fingerprint(&DeviceSpec::Cpu, Numerics::Strict);
    let (width, height) = (manifest.defaults.width, manifest.defaults.height);
    let picture = Picture::new(width, height, vec![0; width as usize * height as usize * 3])?;
    let file = seedfarm_picture::encode_plain(&picture)?;
    let digest = ArtifactDigest::of_bytes(&file).to_string();
    let target_ms = TimingArgs::default().target_lease.as_secs() * 1000;
    let image = v1::RenderedImage {
        pixel_digest: picture.digest().to_string(),
        artifact_digest: digest.clone(),
        artifact_bytes: file.len() as u64,
        duration_ms: target_ms / u64::from(lease),
        ..v1::RenderedImage::default()
    };
    let chunk = v1::Chunk { data: file };
    let upload = v1::PutArtifactRequest { artifact_digest: digest, chunk: Some(chunk) };
    let mut client = session::connect(&coordinator.url, &coordinator.worker_token).await?;
    client.put_artifact(tokio_stream::once(upload)).await?;
    Ok(Terms {
        url: coordinator.url.clone(),
        token: coordinator.worker_token.clone(),
        manifest: manifest.clone(),
        fingerprint: canonical::to_string(&fingerprint),
        file: image,
        credits,
        counting: Arc::new(AtomicBool::new(false)),
        images: Arc::new(AtomicU64::new(0)),
        over: Arc::new(AtomicBool::new(false)),
    })
}

/// Starts workers.
///
/// # Errors
/// If there are no random numbers to be had.
pub(super) fn start(terms: &Terms, workers: u32) -> Result<JoinSet<Result<Counted>>> {
    let mut sessions = JoinSet::new();
    for _ in 0..workers {
        sessions.spawn(session::run(terms.clone(), worker_id()?));
    }
    Ok(sessions)
}

/// A worker that nobody has met.
pub(super) fn worker_id() -> Result<WorkerId> {
    let id = u128::from_str_radix(&secret::random_hex(16)?, 16)?;
    Ok(WorkerId::from_uuid(uuid::Uuid::from_u128(id)))
}

/// Waits, unless a session ends meanwhile.
///
/// # Errors
/// If one does.
pub(super) async fn wait(sessions: &mut JoinSet<Result<Counted>>, duration: Duration) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        Some(ended) = sessions.join_next() => {
            ended.context("a session panicked")??;
            anyhow::bail!("a session was closed by the coordinator")
        }
    }
}

/// Submits a job of one line with `images` images.
///
/// # Errors
/// If it is refused.
pub(super) async fn submit(farm: &Farm, manifest: &ModelManifest, images: u64) -> Result<v1::Job> {
    let line =
        PromptLine { line: 1, prompt: "nothing".to_owned(), seed: None, settings: Settings::default() };
    let spec = JobSpec {
        name: "bench".to_owned(),
        prompts: vec![line],
        count: u32::try_from(images)?,
        seed: 0,
        seed_policy: SeedPolicy::Sequential,
        terms: JobTerms::default(),
        numerics: Numerics::Strict,
        noise: NoiseSource::Philox,
        settings: Settings::default(),
    };
    let key = format!("bench-{}", secret::random_hex(16)?);
    let request = convert::submission(spec, manifest.digest().to_string(), key);
    submit::send(farm, request).await?.job.context("the coordinator's answer lacks the job")
}
