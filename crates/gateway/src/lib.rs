//! HTTP over the coordinator's gRPC: JSON, pictures, events, and a page to look at.
//!
//! The gateway holds no state and no secret: it passes the caller's bearer token on, and whatever the
//! coordinator allows or refuses is what the caller gets. Any number of gateways may run.

mod api;
mod caller;
mod error;
mod page;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use seedfarm_proto::MAX_MESSAGE_BYTES;
use seedfarm_runtime::{CancellationToken, Replicas};
use tokio::net::TcpListener;

/// The gateway stopped because it could not go on.
#[derive(Debug, thiserror::Error)]
#[error("the gateway's listener failed")]
pub struct GatewayError(#[source] std::io::Error);

/// What a gateway needs.
pub struct GatewayConfig {
    /// Where HTTP comes in, already bound.
    pub listener: TcpListener,
    /// The coordinator, or several.
    pub coordinators: Replicas,
}

/// Serves until `shutdown`, then lets open requests finish.
///
/// # Errors
/// [`GatewayError`] when the listener fails.
pub async fn serve(config: GatewayConfig, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let stop = shutdown.clone();
    axum::serve(config.listener, router(Gateway { coordinators: config.coordinators, shutdown }))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
        .map_err(GatewayError)
}

/// What every handler gets.
#[derive(Clone)]
pub(crate) struct Gateway {
    coordinators: Replicas,
    shutdown: CancellationToken,
}

fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(async || "ok\n"))
        .route("/api/v1/status", get(api::farm::status))
        .route("/api/v1/workers", get(api::farm::workers))
        .route("/api/v1/models", get(api::farm::models))
        .route("/api/v1/adapters", get(api::farm::adapters))
        .route("/api/v1/pictures", post(api::pictures::put))
        .route("/api/v1/jobs", get(api::jobs::list).post(api::submit::submit))
        .route("/api/v1/jobs/{job}", get(api::jobs::get))
        .route("/api/v1/jobs/{job}/cancel", post(api::jobs::cancel))
        .route("/api/v1/jobs/{job}/pause", post(api::jobs::pause))
        .route("/api/v1/jobs/{job}/resume", post(api::jobs::resume))
        .route("/api/v1/jobs/{job}/events", get(api::events::events))
        .route("/api/v1/jobs/{job}/images", get(api::images::list))
        .route("/api/v1/jobs/{job}/images/{index}/recipe", get(api::images::recipe))
        .route("/api/v1/artifacts/{digest}", get(api::images::artifact))
        .route("/api/v1/replays", get(api::replays::list).post(api::replays::create))
        .route("/api/v1/replays/{replay}", get(api::replays::get))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(gateway)
}
