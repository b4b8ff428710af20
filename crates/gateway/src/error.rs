//! One place that maps faults to HTTP: `{"error": {"reason", "message", "line"?}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refusal, on its way out as JSON.
pub(crate) struct ApiError(Status);

impl ApiError {
    /// The request itself cannot be read.
    pub(crate) fn bad_request(message: impl std::fmt::Display) -> Self {
        Self(seedfarm_proto::error::malformed(message))
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<seedfarm_core::Invalid> for ApiError {
    fn from(fault: seedfarm_core::Invalid) -> Self {
        Self(seedfarm_proto::error::invalid(&fault))
    }
}

fn http_code(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let details = self.0.get_error_details();
        let info = details.error_info();
        let reason = info.map_or_else(|| format!("{:?}", self.0.code()), |info| info.reason.clone());
        let line = info.and_then(|info| info.metadata.get("line")).and_then(|line| line.parse::<u64>().ok());
        let body = json!({ "error": { "reason": reason, "message": self.0.message(), "line": line } });
        (http_code(self.0.code()), Json(body)).into_response()
    }
}
