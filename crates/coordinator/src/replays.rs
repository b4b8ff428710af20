//! Judging replays: what the second rendering of a recipe proved.

use std::sync::Arc;

use bytes::Bytes;
use seedfarm_core::{ArtifactDigest, Difference, JobId, Verdict};
use seedfarm_store::{Rendered, ReplayRow};

use crate::farm::Farm;

/// Judges the replay that a finished or cancelled job rendered, if it was one's.
pub(crate) async fn judge_job(farm: &Farm, job: JobId) {
    let row = farm.insist("read a replay", |_| farm.store.replay_of_job(job)).await;
    if let Some(Some(row)) = row {
        judge(farm, row).await;
    }
}

/// Judges what was left without a verdict by a coordinator that stopped in between.
pub(crate) async fn judge_all(farm: Arc<Farm>) {
    let rows = farm.insist("read unjudged replays", |_| farm.store.unjudged()).await;
    for row in rows.unwrap_or_default() {
        judge(&farm, row).await;
    }
}

async fn judge(farm: &Farm, row: ReplayRow) {
    let Ok(_turn) = farm.judging.acquire().await else { return };
    if row.verdict.is_some() {
        return;
    }
    let verdict = match &row.rendered {
        Some(rendered) => compare(farm, &row, rendered).await,
        None => Verdict::Unverifiable {
            missing: row
                .error
                .clone()
                .unwrap_or_else(|| "the replay was cancelled before it was rendered".into()),
        },
    };
    if farm.insist("store a verdict", |_| farm.store.judge(row.id, &verdict)).await.is_some() {
        tracing::info!(replay.id = %row.id, recipe.digest = %row.recipe, verdict = verdict.as_str(), "judged");
        farm.hub.replays.tell(&row.id);
    }
}

async fn compare(farm: &Farm, row: &ReplayRow, rendered: &Rendered) -> Verdict {
    if row.expected_pixels == rendered.pixels {
        return Verdict::Exact;
    }
    let class = |fingerprint: &seedfarm_core::Fingerprint| fingerprint.numeric_class();
    let same_class = row.original_fingerprint.as_ref().map(class) == Some(class(&rendered.fingerprint));
    let original = file(farm, row.expected_artifact).await;
    let again = file(farm, Some(rendered.artifact)).await;
    let difference = match original.zip(again) {
        // Decoding large pictures takes a while, and nobody else should wait for it.
        Some((a, b)) => tokio::task::spawn_blocking(move || difference(&a, &b)).await.ok().flatten(),
        None => None,
    };
    Verdict::judge(false, same_class, difference)
}

/// A stored file; one that cannot be had counts as gone.
async fn file(farm: &Farm, digest: Option<ArtifactDigest>) -> Option<Bytes> {
    match farm.blob.get(&digest?).await {
        Ok(bytes) => bytes,
        Err(fault) => {
            tracing::warn!(
                error = &fault as &dyn std::error::Error,
                "a picture cannot be read for comparison"
            );
            None
        }
    }
}

/// How far two picture files lie apart; `None` where they cannot be compared.
fn difference(a: &[u8], b: &[u8]) -> Option<Difference> {
    let (a, b) = (seedfarm_picture::decode(a).ok()?, seedfarm_picture::decode(b).ok()?);
    let same_size = (a.width(), a.height()) == (b.width(), b.height());
    if same_size { Difference::between(a.rgb(), b.rgb()) } else { None }
}
