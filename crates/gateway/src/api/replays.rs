//! `/replays`: start one, look at it, list them.

use axum::Json;
use axum::extract::Path;
use seedfarm_proto::v1::create_replay_request::Original;
use seedfarm_proto::{json, v1};
use serde::Deserialize;

use super::{Answer, list as list_of, whole};
use crate::caller::Caller;

/// An image of this farm; files from elsewhere are replayed with `seedfarm replay FILE.png`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    image_id: String,
}

pub(crate) async fn create(caller: Caller, Json(start): Json<Start>) -> Answer {
    let request = v1::CreateReplayRequest { original: Some(Original::ImageId(start.image_id)) };
    let replay = caller.replays().create_replay(request).await?.into_inner().replay;
    Ok(Json(whole(replay, json::replay)))
}

pub(crate) async fn get(caller: Caller, Path(replay_id): Path<String>) -> Answer {
    let replay = caller.replays().get_replay(v1::GetReplayRequest { replay_id }).await?.into_inner().replay;
    Ok(Json(whole(replay, json::replay)))
}

pub(crate) async fn list(caller: Caller) -> Answer {
    let replays =
        caller.replays().list_replays(v1::ListReplaysRequest { limit: 0 }).await?.into_inner().replays;
    Ok(Json(list_of(&replays, json::replay)))
}
