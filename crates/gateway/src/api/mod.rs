//! The JSON API, a file a noun.

pub(crate) mod events;
pub(crate) mod farm;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod pictures;
pub(crate) mod replays;
pub(crate) mod submit;

use crate::error::ApiError;

/// What every JSON handler gives back.
pub(crate) type Answer = Result<axum::Json<serde_json::Value>, ApiError>;

/// The JSON of each, as a list.
pub(crate) fn list<T>(items: &[T], view: impl Fn(&T) -> serde_json::Value) -> serde_json::Value {
    items.iter().map(view).collect()
}

/// The JSON of a part that the coordinator always sends.
pub(crate) fn whole<T>(part: Option<T>, view: impl Fn(&T) -> serde_json::Value) -> serde_json::Value {
    part.as_ref().map_or(serde_json::Value::Null, view)
}
