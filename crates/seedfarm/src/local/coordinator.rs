//! A coordinator in this process, with its database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use seedfarm_blob::{Blob, BlobLocation};
use seedfarm_coordinator::{CoordinatorConfig, CoordinatorError, Tokens, WhenHeld};
use seedfarm_core::ModelManifest;
use seedfarm_runtime::{CancellationToken, endpoint, listen, secret, tls};
use seedfarm_store::bus::{Bus, LocalBus, RedisBus};
use seedfarm_store::private::{Durability, PrivateCluster};
use seedfarm_store::{Database, DatabaseConfig, Store, open_database};
use tokio::task::JoinHandle;

use crate::args::data::{CLIENT_TOKEN, WORKER_TOKEN};
use crate::args::{StorageArgs, TimingArgs};
use crate::client::Farm;
use crate::failure::{Failure, report};
use crate::local::worker::host_name;

/// Connections to the database: two lanes, submissions, judging, readers.
const CONNECTIONS: u32 = 8;
/// Between two looks whether the coordinator answers.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a coordinator in this process is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Database, pictures and tokens.
    pub data_dir: PathBuf,
    /// Other places for database and pictures.
    pub storage: StorageArgs,
    /// Models that may be asked for before any worker has shown them.
    pub manifests: Vec<ModelManifest>,
    /// Files of the certificate chain and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether to listen for other machines without TLS.
    pub plaintext: bool,
    /// Leases and heartbeats.
    pub timing: TimingArgs,
    /// Where others reach it, as a URL; `None` for the address it listens on.
    pub advertise: Option<String>,
    /// What to do while another coordinator holds the database.
    pub when_held: WhenHeld,
}

/// A coordinator that answers.
#[derive(Debug)]
pub struct LocalCoordinator {
    /// Where this machine reaches it.
    pub url: String,
    /// Where its data lies.
    pub data_dir: PathBuf,
    /// What clients show.
    pub client_token: String,
    /// What workers show.
    pub worker_token: String,
    /// One line about the database.
    pub database: String,
    /// Where pictures are kept.
    pub blobs: String,
    store: Store,
    cluster: Option<PrivateCluster>,
    serving: JoinHandle<Result<(), CoordinatorError>>,
    stop: CancellationToken,
}

impl LocalCoordinator {
    /// Takes the port, opens the database, and waits until the coordinator answers.
    ///
    /// # Errors
    /// If the port is taken, the database cannot be had, or another coordinator holds it.
    pub async fn start(setup: Setup) -> Result<Self> {
        let address = listen::resolve(&setup.listen).await?;
        refuse_plaintext(&setup, address)?;
        let identity = setup.tls.as_ref().map(|(cert, key)| tls::server(cert, key)).transpose()?;
        let listener = listen::bind(address).await?;
        let scheme = if setup.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listen::reachable(listener.local_addr()?));
        let advertised = advertised(&setup, scheme, listener.local_addr()?)?;
        let Database { store, cluster, description } = open(&setup).await?;
        let (client_token, worker_token) = tokens(&setup)?;
        let location = blobs(&setup)?;
        let blob = Blob::open(&location).await?;
        let bus = bus(&setup.storage)?;
        let stop = CancellationToken::new();
        let config = CoordinatorConfig {
            listener,
            address: advertised,
            when_held: setup.when_held,
            store: store.clone(),
            blob,
            manifests: setup.manifests,
            tokens: Tokens { client: client_token.clone(), worker: worker_token.clone() },
            tls: identity,
            lease_ttl: setup.timing.lease_ttl,
            heartbeat: setup.timing.heartbeat,
            target_lease: setup.timing.target_lease,
            bus,
            database_description: description.clone(),
        };
        let mut coordinator = Self {
            url,
            data_dir: setup.data_dir,
            client_token,
            worker_token,
            database: description,
            blobs: location.to_string(),
            store,
            cluster,
            serving: tokio::spawn(seedfarm_coordinator::serve(config, stop.clone())),
            stop,
        };
        match coordinator.answers().await {
            Ok(()) => Ok(coordinator),
            Err(error) => {
                coordinator.stop().await?;
                Err(error)
            }
        }
    }

    /// Waits until it answers, or has failed.
    async fn answers(&mut self) -> Result<()> {
        let (url, token) = (self.url.clone(), self.client_token.clone());
        loop {
            tokio::select! {
                ended = self.ended() => return ended,
                answer = Farm::open(&url, None, &token) => match answer {
                    Ok(_) => return Ok(()),
                    // This machine may not trust the certificate, or know it by another name.
                    Err(error) if report(&error).code == "TLS_FAILED" => return Ok(()),
                    Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                },
            }
        }
    }

    /// Waits until the coordinator ends, by itself or because it was told to.
    ///
    /// # Errors
    /// What ended it.
    pub async fn ended(&mut self) -> Result<()> {
        Ok((&mut self.serving).await.context("the coordinator panicked")??)
    }

    /// Stops serving, then the database. Waits for both.
    ///
    /// # Errors
    /// If the database could not be stopped cleanly.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        if !self.serving.is_finished() {
            match self.serving.await {
                Ok(Err(error)) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the coordinator failed")
                }
                Err(error) => tracing::error!(%error, "the coordinator panicked"),
                Ok(Ok(())) => {}
            }
        }
        self.store.close().await;
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        Ok(())
    }
}

/// Where others reach it: as was said, or at the address it listens on; by this machine's name where that
/// is every address.
fn advertised(setup: &Setup, scheme: &str, address: SocketAddr) -> Result<String> {
    if let Some(url) = &setup.advertise {
        endpoint::endpoint(url, None)?;
        return Ok(url.clone());
    }
    Ok(match address.ip().is_unspecified() {
        true => format!("{scheme}://{}:{}", host_name(), address.port()),
        false => format!("{scheme}://{address}"),
    })
}

fn refuse_plaintext(setup: &Setup, address: SocketAddr) -> Result<()> {
    if address.ip().is_loopback() || setup.tls.is_some() || setup.plaintext {
        return Ok(());
    }
    let message = format!(
        "listening on {address} without TLS would show tokens and pictures to the network: give 'seedfarm \
         coordinator' --tls-cert and --tls-key, or --plaintext where the network is trusted"
    );
    Err(Failure::usage("PLAINTEXT", message).into())
}

async fn open(setup: &Setup) -> Result<Database> {
    Ok(open_database(DatabaseConfig {
        url: setup.storage.database.database_url.clone(),
        data_dir: setup.data_dir.clone(),
        pg_bin: setup.storage.database.pg_bin.clone(),
        durability: Durability::Full,
        max_connections: CONNECTIONS,
    })
    .await?)
}

/// Read after the database is open: it makes the data folder so that its own user can pass through.
fn tokens(setup: &Setup) -> Result<(String, String)> {
    let token = |file| secret::load_or_create(&setup.data_dir.join(file));
    Ok((token(CLIENT_TOKEN)?, token(WORKER_TOKEN)?))
}

fn bus(storage: &StorageArgs) -> Result<Arc<dyn Bus>> {
    Ok(match &storage.redis_url {
        Some(url) => Arc::new(RedisBus::open(url)?),
        None => Arc::new(LocalBus::new()),
    })
}

fn blobs(setup: &Setup) -> Result<BlobLocation> {
    let Some(given) = &setup.storage.blobs else {
        return Ok(BlobLocation::Folder(setup.data_dir.join("blobs")));
    };
    let location = given.parse::<BlobLocation>();
    location.map_err(|error| Failure::usage("BAD_ARGUMENT", error.to_string()).into())
}
