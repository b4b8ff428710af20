//! What is to be rendered again: an image of this farm, or one by what its file says.

use bytes::Bytes;
use seedfarm_core::{
    ArtifactDigest, Fingerprint, ImageId, ImageRange, Invalid, PixelDigest, Recipe, RecipeDigest, WorkerId,
    limits,
};
use seedfarm_proto::{error, v1};
use seedfarm_store::ImageRow;
use tonic::{Code, Status};

use crate::farm::Farm;
use crate::faults::{self, not_found};
use crate::services::{read, read_json};

/// Most bytes of a recipe.
const MAX_JSON_BYTES: usize = 256 << 10;

/// An image that is to be rendered again.
pub(super) struct Original {
    pub(super) image: Option<ImageId>,
    /// The recipe, or why this version cannot read it.
    pub(super) recipe: Result<Recipe, Invalid>,
    pub(super) recipe_digest: RecipeDigest,
    pub(super) recipe_json: String,
    pub(super) pixels: PixelDigest,
    pub(super) artifact: Option<ArtifactDigest>,
    pub(super) worker: Option<WorkerId>,
    pub(super) fingerprint: Option<Fingerprint>,
}

/// An image of this farm.
pub(super) async fn ours(farm: &Farm, image_id: &str) -> Result<Original, Status> {
    let id: ImageId = read(image_id)?;
    let row = farm.store.image(id).await.map_err(faults::of_store)?;
    let row = row.ok_or_else(|| {
        not_found(
            "IMAGE_NOT_FOUND",
            format!("{id} is unknown, or was not rendered yet: there is nothing to replay"),
        )
    })?;
    let recipe = recipe_of(farm, id).await?;
    let fingerprint = farm.store.fingerprint(&row.fingerprint).await.map_err(faults::of_store)?;
    Ok(Original {
        image: Some(id),
        recipe_digest: row.recipe,
        recipe_json: recipe.canonical(),
        recipe: Ok(recipe),
        pixels: row.pixels,
        artifact: Some(row.artifact),
        worker: Some(row.worker),
        fingerprint,
    })
}

async fn recipe_of(farm: &Farm, id: ImageId) -> Result<Recipe, Status> {
    let job = farm.store.job(id.job).await.map_err(faults::of_store)?;
    let job = job.ok_or_else(|| not_found("JOB_NOT_FOUND", format!("{} is unknown", id.job)))?;
    let range = ImageRange::new(id.index, id.index + 1).expect("a range of one image is not empty");
    let work = farm.recipes.of(&farm.store, &job, range).await.map_err(faults::of_recipe)?;
    let planned = work.image(id.index).expect("the work was read for this very image");
    Ok(work.recipe(planned))
}

/// An image from anywhere. Where this farm made it itself, that is found out.
pub(super) async fn foreign(farm: &Farm, image: v1::ForeignImage) -> Result<Original, Status> {
    let pixels: PixelDigest = read(&image.pixel_digest)?;
    let fingerprint = image.fingerprint_json.as_deref().map(read_fingerprint).transpose()?;
    check_json(&image.recipe_json)?;
    let recipe = Recipe::from_json(&image.recipe_json);
    let twin = match &recipe {
        Ok(recipe) => farm.store.image_by_recipe(recipe).await.map_err(faults::of_store)?,
        Err(_) => None,
    };
    let twin: Option<ImageRow> = twin.filter(|twin| twin.pixels == pixels);
    let artifact = match image.png {
        Some(png) => Some(keep(farm, png, pixels).await?),
        None => twin.as_ref().map(|twin| twin.artifact),
    };
    let recipe_json = recipe.as_ref().map_or(image.recipe_json, Recipe::canonical);
    Ok(Original {
        image: twin.as_ref().map(|twin| twin.id),
        recipe_digest: RecipeDigest::of_bytes(recipe_json.as_bytes()),
        recipe_json,
        recipe,
        pixels,
        artifact,
        worker: twin.map(|twin| twin.worker),
        fingerprint,
    })
}

fn check_json(json: &str) -> Result<(), Status> {
    if json.len() > MAX_JSON_BYTES {
        let reason = format!("it has {} bytes, more than the limit of {MAX_JSON_BYTES}", json.len());
        return Err(error::invalid(&Invalid::NotARecipe { reason }));
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json) {
        Ok(_) if !json.contains('\0') => Ok(()),
        Ok(_) => Err(error::invalid(&Invalid::HoldsNul { field: "recipe" })),
        Err(fault) => Err(error::invalid(&Invalid::NotARecipe { reason: fault.to_string() })),
    }
}

fn read_fingerprint(json: &str) -> Result<Fingerprint, Status> {
    read_json("the fingerprint", json).map_err(error::malformed)
}

/// Keeps a picture file to compare with, once its pixels are what they are said to be.
async fn keep(farm: &Farm, png: Vec<u8>, pixels: PixelDigest) -> Result<ArtifactDigest, Status> {
    if png.len() > limits::MAX_ARTIFACT_BYTES {
        let text = format!(
            "the file has {} bytes, more than the limit of {}",
            png.len(),
            limits::MAX_ARTIFACT_BYTES
        );
        return Err(error::status(Code::InvalidArgument, "ARTIFACT_TOO_LARGE", text));
    }
    let bytes = Bytes::from(png);
    let file = bytes.clone();
    let decoded = tokio::task::spawn_blocking(move || seedfarm_picture::decode(&file)).await;
    let picture = decoded
        .map_err(|_| faults::stopping())?
        .map_err(|fault| error::status(Code::InvalidArgument, "NOT_A_PICTURE", fault.to_string()))?;
    if picture.digest() != pixels {
        let text = format!("the file's pixels have the digest {}, not {pixels}", picture.digest());
        return Err(error::status(Code::InvalidArgument, "WRONG_DIGEST", text));
    }
    let digest = ArtifactDigest::of_bytes(&bytes);
    farm.blob.put(&digest, bytes).await.map_err(faults::of_blob)?;
    Ok(digest)
}
