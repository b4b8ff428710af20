//! Each image of a completion, held against what was leased.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use futures::{StreamExt, stream};
use seedfarm_core::completion::FailureClass;
use seedfarm_core::{ArtifactDigest, Fingerprint, PixelDigest, RecipeDigest, limits};
use seedfarm_proto::v1;
use seedfarm_store::NewResult;

use super::{Leased, Refusal};
use crate::farm::Farm;
use crate::services::{read, read_json};

/// Files that are looked for at once.
const LOOKS: usize = 16;
/// Longest rendering time of one image that is believed, in milliseconds: a week.
const MAX_DURATION_MS: u64 = 7 * 24 * 3600 * 1000;

/// What holds of a completion.
pub(super) struct Checked {
    /// Images that hold, by their place in the completion.
    pub(super) images: Vec<(usize, NewResult)>,
    /// How they were rendered; absent when none holds.
    pub(super) fingerprint: Option<Fingerprint>,
    /// The first thing that does not hold.
    pub(super) refusal: Option<Refusal>,
}

/// Checks every image; what does not hold is left out, and the first fault is told.
pub(super) async fn images(farm: &Farm, leased: &Leased, complete: &v1::Complete) -> Checked {
    if complete.images.is_empty() {
        return Checked { images: Vec::new(), fingerprint: None, refusal: None };
    }
    let fingerprint = match fingerprint(leased, &complete.fingerprint_json) {
        Ok(fingerprint) => fingerprint,
        Err(refusal) => return Checked { images: Vec::new(), fingerprint: None, refusal: Some(refusal) },
    };
    let mut seen = HashSet::new();
    let (mut claimed, mut refusal) = (Vec::new(), None);
    for (place, image) in complete.images.iter().enumerate() {
        match claim(leased, image, &mut seen) {
            Ok(result) => claimed.push((place, result)),
            Err(fault) => drop(refusal.get_or_insert(fault)),
        }
    }
    let looked: Vec<_> = stream::iter(claimed)
        .map(|(place, result)| async move { (place, look(farm, &result).await.map(|()| result)) })
        .buffered(LOOKS)
        .collect()
        .await;
    let mut images = Vec::with_capacity(looked.len());
    for (place, found) in looked {
        match found {
            Ok(result) => images.push((place, result)),
            Err(fault) => drop(refusal.get_or_insert(fault)),
        }
    }
    let fingerprint = (!images.is_empty()).then_some(fingerprint);
    Checked { images, fingerprint, refusal }
}

fn fingerprint(leased: &Leased, json: &str) -> Result<Fingerprint, Refusal> {
    let fingerprint: Fingerprint = read_json("the fingerprint", json).map_err(Refusal::worker)?;
    if fingerprint.numerics == leased.job.numerics {
        return Ok(fingerprint);
    }
    Err(Refusal::worker(format!(
        "the images were rendered in {} numerics, and {} asks for {}",
        fingerprint.numerics.as_str(),
        leased.job.id,
        leased.job.numerics.as_str()
    )))
}

/// Reads one image and derives its recipe anew.
fn claim(leased: &Leased, image: &v1::RenderedImage, seen: &mut HashSet<u64>) -> Result<NewResult, Refusal> {
    let index = image.index;
    let planned = leased.work.image(index).filter(|_| leased.range.contains(index));
    let planned = planned.ok_or_else(|| Refusal::worker(format!("image {index} is not in the lease")))?;
    if !seen.insert(index) {
        return Err(Refusal::worker(format!("image {index} came twice")));
    }
    let recipe: RecipeDigest = parse(&image.recipe_digest)?;
    let expected = leased.work.recipe_digest(planned);
    if recipe != expected {
        return Err(Refusal::worker(format!(
            "image {index} was rendered from the recipe {recipe}, and {expected} was leased"
        )));
    }
    if image.artifact_bytes > limits::MAX_ARTIFACT_BYTES as u64 {
        return Err(Refusal::worker(format!("image {index} has {} bytes", image.artifact_bytes)));
    }
    Ok(NewResult {
        index,
        seed: planned.seed,
        template: leased.work.template(planned).digest,
        recipe,
        pixels: parse::<PixelDigest>(&image.pixel_digest)?,
        artifact: parse::<ArtifactDigest>(&image.artifact_digest)?,
        artifact_bytes: image.artifact_bytes,
        duration_ms: image.duration_ms.min(MAX_DURATION_MS),
        warnings: image.warnings.clone(),
    })
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, Refusal> {
    read(text).map_err(|status| Refusal::worker(status.message()))
}

/// Makes sure that an image's file is there.
async fn look(farm: &Farm, result: &NewResult) -> Result<(), Refusal> {
    let missing = |reason| Refusal { class: FailureClass::Environment, reason };
    match farm.blob.size(&result.artifact).await {
        Ok(Some(size)) if size == result.artifact_bytes => Ok(()),
        Ok(Some(size)) => Err(Refusal::worker(format!(
            "the file of image {} has {size} bytes, and {} were told",
            result.index, result.artifact_bytes
        ))),
        Ok(None) => Err(missing(format!("the file {} is not stored: upload it first", result.artifact))),
        Err(fault) => Err(missing(format!("the picture store does not answer: {fault}"))),
    }
}
