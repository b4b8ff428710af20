//! `coordinator`: the one process that decides.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use seedfarm_coordinator::WhenHeld;
use seedfarm_core::ModelManifest;
use seedfarm_runtime::shutdown;
use serde_json::{Value, json};

use crate::args::data::{CLIENT_TOKEN, WORKER_TOKEN};
use crate::args::{DataArgs, ModelArgs, StorageArgs, TimingArgs};
use crate::exit::Exit;
use crate::local::coordinator::{LocalCoordinator, Setup};
use crate::output::Output;
use crate::table::facts;

/// Run the coordinator: takes jobs, hands out work, stores results
///
/// Several may run on one database: one is active, the others answer what reads, and one of them takes over
/// within seconds when the active one is gone. With --json, one document is printed as soon as it answers: its address and where its tokens lie.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  seedfarm coordinator
  DATABASE_URL=postgres://seedfarm@db/seedfarm seedfarm coordinator --blobs s3://pictures
  seedfarm coordinator --listen 0.0.0.0:7740 --tls-cert cert.pem --tls-key key.pem")]
pub struct CoordinatorArgs {
    #[command(flatten)]
    pub serve: ServeArgs,

    /// Certificate chain (a PEM file)
    #[arg(
        long,
        value_name = "FILE",
        env = "SEEDFARM_TLS_CERT",
        hide_env_values = true,
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate (a PEM file)
    #[arg(
        long,
        value_name = "FILE",
        env = "SEEDFARM_TLS_KEY",
        hide_env_values = true,
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// Address under which workers and others reach this coordinator, http:// or https://
    ///
    /// It is shown to callers of a standby. Without it: the address it listens on, by this machine's name where
    /// that is every address.
    #[arg(long, value_name = "URL", env = "SEEDFARM_ADVERTISE", hide_env_values = true)]
    pub advertise: Option<String>,

    #[command(flatten)]
    pub models: ModelArgs,
}

/// What a coordinator of any kind is started with.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", env = "SEEDFARM_LISTEN", hide_env_values = true)]
    #[arg(default_value = "127.0.0.1:7740")]
    pub listen: String,

    /// Listen for other machines without TLS: tokens and pictures can be read on the way
    #[arg(long)]
    pub plaintext: bool,

    #[command(flatten)]
    pub data: DataArgs,

    #[command(flatten)]
    pub storage: StorageArgs,

    #[command(flatten)]
    pub timing: TimingArgs,
}

impl ServeArgs {
    /// In the form in which a coordinator is started; `tls` are the files of its certificate and key.
    ///
    /// # Errors
    /// If there is no data folder.
    pub fn setup(self, manifests: Vec<ModelManifest>, tls: Option<(PathBuf, PathBuf)>) -> Result<Setup> {
        Ok(Setup {
            listen: self.listen,
            data_dir: self.data.resolve()?,
            storage: self.storage,
            manifests,
            tls,
            plaintext: self.plaintext,
            timing: self.timing,
            advertise: None,
            when_held: WhenHeld::Fail,
        })
    }
}

/// Serves until it is told to stop.
///
/// # Errors
/// If the port is taken, or the database cannot be had.
pub async fn run(args: CoordinatorArgs, output: Output) -> Result<Exit> {
    let stop = shutdown::on_signals()?;
    let manifests = manifests(args.models).await?;
    let tls = args.tls_cert.zip(args.tls_key);
    let is_shared = args.serve.storage.database.database_url.is_some();
    let when_held = if is_shared { WhenHeld::StandBy } else { WhenHeld::Fail };
    let setup = Setup { advertise: args.advertise, when_held, ..args.serve.setup(manifests, tls)? };
    let mut coordinator = LocalCoordinator::start(setup).await?;
    output.result(&document(&coordinator), || text(&coordinator))?;
    let ended = tokio::select! {
        ended = coordinator.ended() => ended,
        () = stop.cancelled() => Ok(()),
    };
    coordinator.stop().await?;
    ended.map(|()| Exit::Done)
}

/// The manifests of the models on this machine; there may be none, since workers bring their own.
///
/// # Errors
/// If a model that was named, or found, cannot be read.
pub async fn manifests(models: ModelArgs) -> Result<Vec<ModelManifest>> {
    let load = move || {
        if models.model_folders()?.is_empty() {
            return Ok(Vec::new());
        }
        Ok(models.load()?.into_iter().map(|model| model.manifest).collect())
    };
    tokio::task::spawn_blocking(load).await?
}

/// Where the coordinator is, as JSON.
pub fn document(coordinator: &LocalCoordinator) -> Value {
    json!({
        "url": coordinator.url,
        "data_dir": coordinator.data_dir.display().to_string(),
        "database": coordinator.database,
        "blobs": coordinator.blobs,
        "client_token_file": coordinator.data_dir.join(CLIENT_TOKEN).display().to_string(),
        "worker_token_file": coordinator.data_dir.join(WORKER_TOKEN).display().to_string(),
    })
}

/// Where the coordinator is, for people.
pub fn text(coordinator: &LocalCoordinator) -> String {
    let token = |file| coordinator.data_dir.join(file).display().to_string();
    facts(&[
        ("coordinator", coordinator.url.clone()),
        ("database", coordinator.database.clone()),
        ("pictures", coordinator.blobs.clone()),
        ("client token", token(CLIENT_TOKEN)),
        ("worker token", token(WORKER_TOKEN)),
    ])
}
