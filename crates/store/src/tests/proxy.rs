//! A proxy that cuts the connection at a commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::{Farm, fresh, job_id};
use crate::{Store, StoreError};

const PASS: u8 = 0;
/// Cut once the server has answered the commit, and keep the answer back.
const CUT_AFTER: u8 = 1;
/// Cut instead of sending the commit on.
const CUT_BEFORE: u8 = 2;

/// Listens on a socket of its own and speaks to the test server.
struct Proxy {
    folder: tempfile::TempDir,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    fn start(server: &PgConnectOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cut = Arc::new(AtomicU8::new(PASS));
        let socket = folder.path().join(format!(".s.PGSQL.{}", server.get_port()));
        let listener = UnixListener::bind(socket).unwrap();
        let (server, armed) = (server.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server.clone(), armed.clone()));
            }
        });
        Self { folder, cut }
    }

    fn options(&self, server: &PgConnectOptions) -> PgConnectOptions {
        server.clone().socket(self.folder.path()).ssl_mode(PgSslMode::Disable)
    }
}

async fn serve(client: UnixStream, server: PgConnectOptions, cut: Arc<AtomicU8>) {
    let folder = server
        .get_socket()
        .cloned()
        .or_else(|| server.get_host().starts_with('/').then(|| PathBuf::from(server.get_host())));
    match folder {
        Some(folder) => {
            let socket = folder.join(format!(".s.PGSQL.{}", server.get_port()));
            pass(client, UnixStream::connect(socket).await.unwrap(), cut).await;
        }
        None => {
            let address = (server.get_host(), server.get_port());
            pass(client, TcpStream::connect(address).await.unwrap(), cut).await;
        }
    }
}

async fn pass(client: UnixStream, server: impl AsyncRead + AsyncWrite, cut: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let mut buffer = vec![0; 1 << 16];
    let mut answer = vec![0; 1 << 16];
    loop {
        tokio::select! {
            read = from_client.read(&mut buffer) => {
                let Ok(read @ 1..) = read else { return };
                let commits = buffer[..read].windows(6).any(|window| window == b"COMMIT");
                let how = if commits { cut.swap(PASS, Ordering::SeqCst) } else { PASS };
                if how == CUT_BEFORE {
                    return;
                }
                to_server.write_all(&buffer[..read]).await.unwrap();
                if how == CUT_AFTER {
                    let answered = from_server.read(&mut answer).await.unwrap();
                    assert!(answered > 0, "the server answers a commit");
                    return;
                }
            }
            read = from_server.read(&mut answer) => {
                let Ok(read @ 1..) = read else { return };
                if to_client.write_all(&answer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_to_have_happened() {
    let farm = Farm::new().await;
    let proxy = Proxy::start(&farm.database.options());
    let store = Store::open(proxy.options(&farm.database.options()), 4).await.unwrap();
    let job = farm.job(1, 8).await;
    proxy.cut.store(CUT_AFTER, Ordering::SeqCst);
    let leases = store.claim(farm.epoch(), &[fresh(job_id(1), 0, 4)]).await.unwrap();
    assert_eq!(proxy.cut.load(Ordering::SeqCst), PASS, "the commit was cut");
    let stored = farm.store.snapshot(farm.epoch()).await.unwrap().leases;
    assert_eq!(stored.iter().map(|lease| Some(lease.fence.lease)).collect::<Vec<_>>(), leases);

    let fence = stored[0].fence;
    proxy.cut.store(CUT_AFTER, Ordering::SeqCst);
    let settled = store.complete(farm.epoch(), &[farm.completion(&job, fence, 0..4)]).await.unwrap();
    assert_eq!(proxy.cut.load(Ordering::SeqCst), PASS, "the commit was cut");
    assert!(settled.outcomes[0].lease_held);
    assert_eq!(settled.progress[0].done, 4);
    farm.assert_sound().await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_an_error_that_passes_and_stores_nothing() {
    let farm = Farm::new().await;
    let proxy = Proxy::start(&farm.database.options());
    let store = Store::open(proxy.options(&farm.database.options()), 4).await.unwrap();
    farm.job(1, 8).await;
    proxy.cut.store(CUT_BEFORE, Ordering::SeqCst);
    let claim = [fresh(job_id(1), 0, 4)];
    let error = store.claim(farm.epoch(), &claim).await.unwrap_err();
    assert!(error.is_transient() && matches!(error, StoreError::Database(_)), "{error:?}");
    assert_eq!(farm.count("leases").await, 0);
    assert!(store.claim(farm.epoch(), &claim).await.unwrap()[0].is_some(), "the same call succeeds later");
    farm.assert_sound().await;
}
