//! `POST /pictures`: a PNG file that jobs may start from or follow.

use axum::Json;
use axum::body::Bytes;
use futures::stream;
use seedfarm_proto::{CHUNK_BYTES, v1};
use serde_json::json;

use super::Answer;
use crate::caller::Caller;

/// Takes the file as the body of the request.
pub(crate) async fn put(caller: Caller, body: Bytes) -> Answer {
    // A body of nothing is one empty chunk, to be refused as what it is.
    let starts = (0..body.len().max(1)).step_by(CHUNK_BYTES);
    let message = move |from: usize| {
        let data = body.slice(from..body.len().min(from + CHUNK_BYTES)).to_vec();
        v1::PutPictureRequest { digest: String::new(), chunk: Some(v1::Chunk { data }) }
    };
    let stored = caller.jobs().put_picture(stream::iter(starts.map(message))).await?.into_inner();
    Ok(Json(json!({
        "digest": stored.digest,
        "width": stored.width,
        "height": stored.height,
        "known": stored.known,
    })))
}
