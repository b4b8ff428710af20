//! Images of a job, their recipes, their files.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt as _;
use seedfarm_proto::{json, v1};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, list as list_of};
use crate::caller::Caller;
use crate::error::ApiError;

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    limit: u32,
}

pub(crate) async fn list(
    caller: Caller,
    Path(job_id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let request = v1::ListImagesRequest { job_id, from_index: query.from, limit: query.limit };
    let found = caller.jobs().list_images(request).await?.into_inner();
    Ok(Json(json!({ "images": list_of(&found.images, json::image), "next": found.next_index })))
}

pub(crate) async fn recipe(caller: Caller, Path((job, index)): Path<(String, u64)>) -> Answer {
    let request = v1::GetRecipeRequest { image_id: format!("{job}/{index}") };
    let found = caller.jobs().get_recipe(request).await?.into_inner();
    Ok(Json(json!({
        "recipe": json::embedded(Some(&found.recipe_json)),
        "recipe_digest": found.recipe_digest,
        "model": found.model,
        "image": found.image.as_ref().map(json::image),
        "fingerprint": json::embedded(found.fingerprint_json.as_deref()),
    })))
}

/// The file under a digest never changes, so it may be kept for ever.
pub(crate) async fn artifact(caller: Caller, Path(digest): Path<String>) -> Result<Response, ApiError> {
    let request = v1::FetchArtifactRequest { artifact_digest: digest.clone() };
    let chunks = caller.jobs().fetch_artifact(request).await?.into_inner();
    let bytes = chunks.map_ok(|part| part.chunk.unwrap_or_default().data);
    let headers = [
        (CONTENT_TYPE, "image/png".to_owned()),
        (CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
        (ETAG, format!("\"{digest}\"")),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}
