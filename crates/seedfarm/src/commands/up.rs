//! `up`: a whole farm in one process.

use anyhow::{Context, Result};
use clap::Args;
use seedfarm_runtime::{CancellationToken, listen, shutdown};

use crate::args::{DeviceArgs, ModelArgs, OwnerArgs};
use crate::commands::coordinator::{ServeArgs, document, manifests, text};
use crate::commands::gateway;
use crate::exit::Exit;
use crate::local::LocalFarm;
use crate::output::Output;

/// Run a farm on this machine until Ctrl-C: coordinator, worker and web page in one process
///
/// For other machines over TLS, run 'seedfarm coordinator' and 'seedfarm worker' instead.
/// With --json, one document is printed as soon as it answers.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm up
  seedfarm up --data-dir ./farm --listen 127.0.0.1:0 --http 127.0.0.1:0 --json")]
pub struct UpArgs {
    /// Address of the web page and the JSON interface; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", env = "SEEDFARM_HTTP", hide_env_values = true)]
    #[arg(default_value = "127.0.0.1:7741")]
    pub http: String,

    #[command(flatten)]
    pub serve: ServeArgs,

    #[command(flatten)]
    pub devices: DeviceArgs,

    #[command(flatten)]
    pub models: ModelArgs,

    #[command(flatten)]
    pub owner: OwnerArgs,
}

/// Serves and renders until it is told to stop.
///
/// # Errors
/// If a port is taken, the database cannot be had, or there is no model.
pub async fn run(args: UpArgs, output: Output) -> Result<Exit> {
    let stop = shutdown::on_signals()?;
    let http = listen::bind(gateway::address(&args.http, args.serve.plaintext).await?).await?;
    let page = format!("http://{}", listen::reachable(http.local_addr()?));
    let manifests = manifests(args.models.clone()).await?;
    let setup = args.serve.setup(manifests, None)?;
    let mut farm = LocalFarm::start(setup, &args.models, &args.devices, &args.owner).await?;
    let gateway_stop = CancellationToken::new();
    let (urls, stop_gateway) = (vec![farm.coordinator.url.clone()], gateway_stop.clone());
    let mut gateway = tokio::spawn(async move { gateway::serve(http, &urls, None, stop_gateway).await });
    let mut told = document(&farm.coordinator);
    told["http"] = page.clone().into();
    output.result(&told, || format!("{}\nweb page      {page}", text(&farm.coordinator)))?;
    let ended = tokio::select! {
        ended = farm.ended() => ended,
        ended = &mut gateway => ended.context("the gateway panicked")?,
        () = stop.cancelled() => Ok(()),
    };
    gateway_stop.cancel();
    farm.stop().await?;
    ended.map(|()| Exit::Done)
}
