//! The coordinator from start to stop.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_proto::v1::{
    farm_service_server::FarmServiceServer, job_service_server::JobServiceServer,
    model_service_server::ModelServiceServer, replay_service_server::ReplayServiceServer,
    worker_service_server::WorkerServiceServer,
};
use seedfarm_proto::{DESCRIPTORS, MAX_MESSAGE_BYTES};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::server::HealthReporter;

use crate::auth::{Gate, Tokens};
use crate::farm::Farm;
use crate::replica::Replica;
use crate::services::{farm::Operator, jobs::Jobs, models::Models, replays::Replays, workers::Workers};
use crate::switch::Switch;
use crate::{CoordinatorConfig, CoordinatorError, health};

/// How long a call may take to its first answer; an upload, to its only one.
const CALL: Duration = Duration::from_secs(120);
/// How often a silent connection is tried, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams of one connection at once.
const STREAMS: u32 = 1024;
/// Calls of one connection that are worked on at once; others wait. Streams that are open do not count.
const CALLS: usize = 256;
/// Most bytes of a call's headers.
const HEADER_BYTES: u32 = 16 << 10;
/// Streams that a peer may open and give up before it is cut off.
const RESETS: usize = 64;
/// How long open calls get when the coordinator stops.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a coordinator until `shutdown` is cancelled.
///
/// # Errors
/// At start when the database cannot be used, or another coordinator holds it and this one is not to stand
/// by; later when a fault does not pass, or another one has taken over and this one is not to stand by.
pub async fn serve(config: CoordinatorConfig, shutdown: CancellationToken) -> Result<(), CoordinatorError> {
    let reporter = HealthReporter::new();
    reporter.set_serving::<JobServiceServer<Jobs>>().await;
    reporter.set_not_serving::<WorkerServiceServer<Workers>>().await;
    let stop = shutdown.child_token();
    let health_service = health::service(&reporter, stop.clone());
    let replica = Replica::new(&config, reporter, stop.clone());
    let CoordinatorConfig { listener, tls, .. } = config;
    let routes = routes(Routes::new(health_service), replica.switch.clone())?;
    let router = server(tls)?.add_routes(routes);
    let serving = async {
        tokio::select! {
            () = replica.opened.cancelled() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let served = listen(router, listener, &stop).await;
        stop.cancel();
        served
    };
    let running = async {
        let ended = replica.run().await;
        stop.cancel();
        ended
    };
    let (served, ended) = tokio::join!(serving, running);
    ended.and(served)
}

/// How connections are treated.
fn server(tls: Option<ServerTlsConfig>) -> Result<Server, CoordinatorError> {
    let server = Server::builder()
        .timeout(CALL)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS))
        .concurrency_limit_per_connection(CALLS)
        .http2_max_header_list_size(Some(HEADER_BYTES))
        .http2_max_pending_accept_reset_streams(Some(RESETS));
    Ok(match tls {
        Some(tls) => server.tls_config(tls)?,
        None => server,
    })
}

/// What is answered whatever the term, and by the present term all else.
fn routes(health: Routes, switch: Switch) -> Result<Routes, CoordinatorError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = health.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
    let router = std::mem::take(routes.axum_router_mut()).fallback_service(switch);
    Ok(router.into())
}

/// All services of one term behind their gates.
pub(crate) fn services(farm: &Arc<Farm>, tokens: &Tokens) -> Routes {
    macro_rules! gated {
        ($server:ident, $service:expr, $gate:expr) => {
            InterceptedService::new(
                $server::new($service)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
                $gate,
            )
        };
    }
    let (client, worker) = (Gate::for_clients(tokens), Gate::for_workers(tokens));
    Routes::new(gated!(JobServiceServer, Jobs(Arc::clone(farm)), client.clone()))
        .add_service(gated!(ReplayServiceServer, Replays(Arc::clone(farm)), client.clone()))
        .add_service(gated!(ModelServiceServer, Models(Arc::clone(farm)), client.clone()))
        .add_service(gated!(FarmServiceServer, Operator(Arc::clone(farm)), client))
        .add_service(gated!(WorkerServiceServer, Workers(Arc::clone(farm)), worker))
}

/// Serves until the coordinator stops, then gives open calls a grace; streams tell their readers themselves.
async fn listen(
    router: Router,
    listener: TcpListener,
    stop: &CancellationToken,
) -> Result<(), CoordinatorError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut serving =
        std::pin::pin!(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
    tokio::select! {
        served = &mut serving => served?,
        () = stop.cancelled() => {
            if let Ok(served) = timeout(GRACE, serving).await {
                served?;
            }
        }
    }
    Ok(())
}
