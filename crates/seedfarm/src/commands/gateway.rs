//! `gateway`: the farm over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use seedfarm_gateway::GatewayConfig;
use seedfarm_proto::v1::worker_service_server::SERVICE_NAME;
use seedfarm_runtime::{CancellationToken, Replicas, endpoint, listen, shutdown};
use serde_json::json;
use tokio::net::TcpListener;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// How long the coordinator may take to begin an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Serve the farm over HTTP: a web page, and JSON under /api/v1
///
/// It holds no secret: callers show the client token, and it is passed on to the coordinator.
#[derive(Debug, Clone, Args)]
pub struct GatewayArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", env = "SEEDFARM_HTTP", hide_env_values = true)]
    #[arg(default_value = "127.0.0.1:7741")]
    pub http: String,

    /// Listen for other machines: HTTP has no TLS here, so put a proxy that has it in front
    #[arg(long)]
    pub plaintext: bool,

    /// Address of the coordinator, http:// or https://; several, separated by commas, stand in for one another
    #[arg(long, value_name = "URL", env = "SEEDFARM_COORDINATOR", hide_env_values = true)]
    #[arg(value_delimiter = ',', default_value = "http://127.0.0.1:7740")]
    pub coordinator: Vec<String>,

    /// Trust this certificate authority (a PEM file) instead of the web's
    #[arg(long, value_name = "FILE", env = "SEEDFARM_TLS_CA", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,
}

/// Serves until it is told to stop.
///
/// # Errors
/// If the port is taken, or the coordinator's address is none.
pub async fn run(args: GatewayArgs, output: Output) -> Result<Exit> {
    let stop = shutdown::on_signals()?;
    let listener = listen::bind(address(&args.http, args.plaintext).await?).await?;
    let page = format!("http://{}", listen::reachable(listener.local_addr()?));
    let document = json!({ "http": page, "coordinator": args.coordinator.join(",") });
    output.result(&document, || format!("web page  {page}"))?;
    serve(listener, &args.coordinator, args.tls_ca, stop).await?;
    Ok(Exit::Done)
}

/// Serves on `listener` for the coordinators at `urls`; one that is away is tried at each call.
///
/// # Errors
/// If the address is none, or the listener fails.
pub async fn serve(
    listener: TcpListener,
    urls: &[String],
    authority: Option<PathBuf>,
    stop: CancellationToken,
) -> Result<()> {
    let endpoints = endpoint::endpoints(urls, authority.as_deref())?;
    let endpoints: Vec<_> = endpoints.into_iter().map(|endpoint| endpoint.timeout(CALL_TIMEOUT)).collect();
    let coordinators = Replicas::new(&endpoints, SERVICE_NAME);
    Ok(seedfarm_gateway::serve(GatewayConfig { listener, coordinators }, stop).await?)
}

/// Resolves an address for HTTP, which other machines may reach only where that was asked for.
///
/// # Errors
/// If it is none, or not of this machine alone.
pub async fn address(given: &str, plaintext: bool) -> Result<SocketAddr> {
    let address = listen::resolve(given).await?;
    if address.ip().is_loopback() || plaintext {
        return Ok(address);
    }
    let message = format!(
        "serving HTTP on {address} would show tokens and pictures to the network: put a proxy with TLS in front \
         of 127.0.0.1, or give --plaintext where the network is trusted"
    );
    Err(Failure::usage("PLAINTEXT", message).into())
}
