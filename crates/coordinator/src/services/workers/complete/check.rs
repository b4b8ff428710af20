//! Each image of a completion, held against what was leased.

use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;

use futures::{StreamExt, stream};
use seedfarm_core::completion::FailureClass;
use seedfarm_core::{ArtifactDigest, Fingerprint, PixelDigest, RecipeDigest, limits};
use seedfarm_proto::v1;
use seedfarm_store::{NewResult, StoredFingerprint};

use super::{Leased, Refusal};
use crate::farm::{Farm, KnownFingerprint};
use crate::inspection::{Contents, Look};
use crate::refusals::Reason;
use crate::services::{read, read_json};

/// Files that are looked for at once.
const LOOKS: usize = 16;
/// Longest fingerprint that is remembered by its JSON, in bytes.
const MAX_KNOWN_BYTES: usize = 4096;
/// Longest rendering time of one image that is believed, in milliseconds: a week.
const MAX_DURATION_MS: u64 = 7 * 24 * 3600 * 1000;

/// What holds of a completion.
pub(super) struct Checked {
    /// Images that hold, by their place in the completion.
    pub(super) images: Vec<(usize, NewResult)>,
    /// How they were rendered; absent when none holds.
    pub(super) fingerprint: Option<StoredFingerprint>,
    /// The first thing that does not hold.
    pub(super) refusal: Option<Refusal>,
}

/// Checks every image; what does not hold is left out, and the first fault is told. `None` when the
/// coordinator stops.
pub(super) async fn images(farm: &Farm, leased: &Leased, complete: &v1::Complete) -> Option<Checked> {
    if complete.images.is_empty() {
        return Some(Checked { images: Vec::new(), fingerprint: None, refusal: None });
    }
    let fingerprint = match fingerprint(farm, leased, &complete.fingerprint_json).await? {
        Ok(fingerprint) => fingerprint,
        Err(refusal) => {
            return Some(Checked { images: Vec::new(), fingerprint: None, refusal: Some(refusal) });
        }
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
        .map(|(place, result)| async move { (place, look(farm, leased, &result).await.map(|()| result)) })
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
    Some(Checked { images, fingerprint, refusal })
}

/// The fingerprint that a completion tells, stored. `None` when the coordinator stops.
async fn fingerprint(farm: &Farm, leased: &Leased, json: &str) -> Option<Result<StoredFingerprint, Refusal>> {
    let known = match farm.fingerprints.get(json) {
        Some(known) => known,
        None => match read_json::<Fingerprint>("the fingerprint", json) {
            Ok(told) => store_fingerprint(farm, json, &told).await?,
            Err(why) => return Some(Err(Refusal::worker(Reason::Malformed, why))),
        },
    };
    if known.numerics == leased.job.numerics {
        return Some(Ok(known.stored));
    }
    let text = format!(
        "the images were rendered in {} numerics, and {} asks for {}",
        known.numerics.as_str(),
        leased.job.id,
        leased.job.numerics.as_str()
    );
    Some(Err(Refusal::worker(Reason::WrongNumerics, text)))
}

async fn store_fingerprint(farm: &Farm, json: &str, told: &Fingerprint) -> Option<KnownFingerprint> {
    let stored = farm.insist("store a fingerprint", |_| farm.store.put_fingerprint(told)).await?;
    let known = KnownFingerprint { stored, numerics: told.numerics };
    if json.len() <= MAX_KNOWN_BYTES {
        farm.fingerprints.put(json.to_owned(), known);
    }
    Some(known)
}

/// Reads one image and derives its recipe anew.
fn claim(leased: &Leased, image: &v1::RenderedImage, seen: &mut HashSet<u64>) -> Result<NewResult, Refusal> {
    let index = image.index;
    let planned = leased.work.image(index).filter(|_| leased.range.contains(index));
    let planned = planned
        .ok_or_else(|| Refusal::worker(Reason::OutsideLease, format!("image {index} is not in the lease")))?;
    if !seen.insert(index) {
        return Err(Refusal::worker(Reason::ImageTwice, format!("image {index} came twice")));
    }
    let recipe: RecipeDigest = parse(&image.recipe_digest)?;
    let expected = leased.work.recipe_digest(planned);
    if recipe != expected {
        return Err(Refusal::worker(
            Reason::WrongRecipe,
            format!("image {index} was rendered from the recipe {recipe}, and {expected} was leased"),
        ));
    }
    if image.artifact_bytes > limits::MAX_ARTIFACT_BYTES as u64 {
        let text = format!("image {index} has {} bytes", image.artifact_bytes);
        return Err(Refusal::worker(Reason::WrongLength, text));
    }
    if let Some(least) = leased.job.terms.caps.min_image_ms.filter(|&least| image.duration_ms < least) {
        let text = format!(
            "image {index} took {} ms, less than the {least} ms below which {} takes none for rendered",
            image.duration_ms, leased.job.id
        );
        return Err(Refusal::worker(Reason::TooFast, text));
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
    read(text).map_err(|status| Refusal::worker(Reason::Malformed, status.message()))
}

/// Makes sure that an image's file is there, and is the picture that was leased.
async fn look(farm: &Farm, leased: &Leased, result: &NewResult) -> Result<(), Refusal> {
    is_stored(farm, result).await?;
    match inspect(farm, result).await? {
        Ok(contents) => holds(leased, result, contents),
        Err(why) => {
            let text = format!("the file of image {} is no picture: {why}", result.index);
            Err(Refusal::worker(Reason::NotAPicture, text))
        }
    }
}

fn missing(text: String) -> Refusal {
    Refusal { class: FailureClass::Environment, reason: Reason::NoFile, text }
}

/// What an image's file holds: as it was seen when it was uploaded, or read anew.
async fn inspect(farm: &Farm, result: &NewResult) -> Result<Look, Refusal> {
    if let Some(look) = farm.inspection.known(&result.artifact) {
        return Ok(look);
    }
    let file = farm.blob.get(&result.artifact).await;
    let file = file.map_err(|fault| missing(format!("the picture store does not answer: {fault}")))?;
    let file =
        file.ok_or_else(|| missing(format!("the file {} is damaged: upload it again", result.artifact)))?;
    let look = farm.inspection.of(result.artifact, file).await;
    look.ok_or_else(|| missing("the coordinator is shutting down".to_owned()))
}

/// Holds a picture against its recipe and against what was told of it.
fn holds(leased: &Leased, result: &NewResult, contents: Contents) -> Result<(), Refusal> {
    let index = result.index;
    let Contents { width, height, pixels, recipe } = contents;
    let wanted = leased.work.image(index).map(|planned| &leased.work.template(planned).recipe);
    if let Some(wanted) = wanted.filter(|wanted| (wanted.width, wanted.height) != (width, height)) {
        let text = format!(
            "the picture of image {index} has {width}x{height} pixels, not {}x{}",
            wanted.width, wanted.height
        );
        return Err(Refusal::worker(Reason::WrongSize, text));
    }
    if pixels != Some(result.pixels) {
        let held = pixels.map_or_else(|| "none that 8-bit RGB holds".to_owned(), |pixels| pixels.to_string());
        let text = format!("the pixel digest of image {index} is {held}, and {} was told", result.pixels);
        return Err(Refusal::worker(Reason::WrongPixels, text));
    }
    if let Some(other) = recipe.filter(|recipe| *recipe != result.recipe) {
        let text =
            format!("the file of image {index} holds the recipe {other}, and {} was leased", result.recipe);
        return Err(Refusal::worker(Reason::WrongMetadata, text));
    }
    Ok(())
}

async fn is_stored(farm: &Farm, result: &NewResult) -> Result<(), Refusal> {
    let size = match farm.arrivals.get(&result.artifact) {
        Some(size) => Ok(Some(size)),
        None => farm.blob.size(&result.artifact).await,
    };
    match size {
        Ok(Some(size)) if size == result.artifact_bytes => Ok(()),
        Ok(Some(size)) => Err(Refusal::worker(
            Reason::WrongLength,
            format!(
                "the file of image {} has {size} bytes, and {} were told",
                result.index, result.artifact_bytes
            ),
        )),
        Ok(None) => Err(missing(format!("the file {} is not stored: upload it first", result.artifact))),
        Err(fault) => Err(missing(format!("the picture store does not answer: {fault}"))),
    }
}
