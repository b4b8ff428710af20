//! The recipe of one image, rendered or not.

use seedfarm_core::{ImageId, ImageRange};
use seedfarm_proto::v1;
use tonic::Status;

use super::stored;
use crate::farm::Farm;
use crate::faults::{self, not_found};
use crate::services::read;
use crate::wire;

pub(super) async fn get(farm: &Farm, image_id: &str) -> Result<v1::GetRecipeResponse, Status> {
    let id: ImageId = read(image_id)?;
    let job = stored(farm, id.job).await?;
    let range = ImageRange::new(id.index, id.index + 1).filter(|_| id.index < job.total);
    let range = range.ok_or_else(|| {
        let message = format!("{id} is unknown: {} has images 0 to {}", id.job, job.total - 1);
        not_found("IMAGE_NOT_FOUND", message)
    })?;
    let work = farm.recipes.of(&farm.store, &job, range).await.map_err(faults::of_recipe)?;
    let planned = work.image(id.index).expect("the work was read for this very image");
    let recipe = work.recipe(planned);
    let image = farm.store.image(id).await.map_err(faults::of_store)?;
    let fingerprint_json = match &image {
        Some(image) => wire::fingerprint(farm, image.fingerprint).await?,
        None => None,
    };
    let image = match image {
        Some(image) => wire::images(farm, id.job, &[image]).await?.pop(),
        None => None,
    };
    Ok(v1::GetRecipeResponse {
        recipe_json: recipe.canonical(),
        recipe_digest: recipe.digest().to_string(),
        model: job.model_name,
        image,
        fingerprint_json,
    })
}
