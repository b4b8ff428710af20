//! Asking for a replay of an image of the farm, or of a picture file.

use std::path::Path;

use anyhow::{Context, Result};
use seedfarm_picture::Metadata;
use seedfarm_proto::v1;
use seedfarm_proto::v1::create_replay_request::Original;

use crate::client::Farm;
use crate::failure::Failure;

/// Starts a replay.
///
/// # Errors
/// If the coordinator refuses it, as for an image that does not exist.
pub async fn create(farm: &Farm, original: Original) -> Result<v1::Replay> {
    let request = v1::CreateReplayRequest { original: Some(original) };
    let response = farm.replays().create_replay(request).await?.into_inner();
    response.replay.context("the coordinator's answer lacks the replay")
}

/// What a picture file says of itself, with the file, for a replay.
///
/// # Errors
/// If the file is no whole PNG, or holds no recipe.
pub fn foreign(path: &Path, png: Vec<u8>) -> Result<Original> {
    let metadata = seedfarm_picture::read_metadata(&png)
        .with_context(|| format!("{} cannot be replayed", path.display()))?;
    let recipe_json = recipe_of(path, &metadata)?;
    let pixel_digest = metadata.pixel_digest.ok_or_else(|| no_pixels(path))?.to_string();
    let fingerprint_json = metadata.fingerprint.as_ref().map(serde_json::to_string).transpose()?;
    Ok(Original::Foreign(v1::ForeignImage { recipe_json, pixel_digest, fingerprint_json, png: Some(png) }))
}

fn recipe_of(path: &Path, metadata: &Metadata) -> Result<String> {
    let Some(recipe) = metadata.recipe_json.clone() else {
        let hint = if metadata.parameters.is_some() {
            "; it has 'parameters' of another tool, which do not fix the pixels (see 'seedfarm inspect')"
        } else {
            "; it was made by another tool, or its metadata was stripped"
        };
        let message = format!("{} holds no recipe, so it cannot be replayed{hint}", path.display());
        return Err(Failure::failed("NO_RECIPE", message).into());
    };
    Ok(recipe)
}

fn no_pixels(path: &Path) -> Failure {
    let message =
        format!("{} holds pixels that 8-bit RGB cannot hold, so they cannot be compared", path.display());
    Failure::failed("NOT_RGB8", message)
}
