//! `/status`, `/workers`, `/models`, `/adapters`.

use axum::Json;
use seedfarm_proto::{json, v1};

use super::{Answer, list};
use crate::caller::Caller;

pub(crate) async fn status(caller: Caller) -> Answer {
    let status = caller.farm().get_status(v1::GetStatusRequest {}).await?.into_inner();
    Ok(Json(json::status(&status)))
}

pub(crate) async fn workers(caller: Caller) -> Answer {
    let workers = caller.farm().list_workers(v1::ListWorkersRequest {}).await?.into_inner().workers;
    Ok(Json(list(&workers, json::worker)))
}

pub(crate) async fn models(caller: Caller) -> Answer {
    let models = caller.models().list_models(v1::ListModelsRequest {}).await?.into_inner().models;
    Ok(Json(list(&models, json::model)))
}

pub(crate) async fn adapters(caller: Caller) -> Answer {
    let adapters = caller.models().list_adapters(v1::ListAdaptersRequest {}).await?.into_inner().adapters;
    Ok(Json(list(&adapters, json::adapter)))
}
