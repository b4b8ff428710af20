//! A coordinator whose every word comes from the test.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seedfarm_core::ArtifactDigest;
use seedfarm_core::completion::Fence;
use seedfarm_proto::PROTOCOL;
use seedfarm_proto::v1::session_request::Message as Said;
use seedfarm_proto::v1::session_response::Message as Told;
use seedfarm_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use seedfarm_proto::v1::{self, Complete, FailureClass};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::recipes;

pub const TOKEN: &str = "s3cret";

/// Nothing here takes long; a test that waits for so long waits for something that will not come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub struct Coordinator {
    pub address: SocketAddr,
    pub shelf: Arc<Shelf>,
    sessions: mpsc::UnboundedReceiver<Session>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Where uploads go.
pub struct Shelf {
    files: watch::Sender<BTreeMap<String, Vec<u8>>>,
    refusals: Mutex<Vec<Status>>,
    pictures: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: AtomicUsize,
    gate: Semaphore,
}

impl Shelf {
    fn new() -> Self {
        let (files, _) = watch::channel(BTreeMap::new());
        Self {
            files,
            refusals: Mutex::default(),
            pictures: Mutex::default(),
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }

    /// Offers a picture under the digest of `named`, and answers that digest.
    pub fn offer(&self, named: &[u8], file: Vec<u8>) -> ArtifactDigest {
        let digest = ArtifactDigest::of_bytes(named);
        self.pictures.lock().unwrap().insert(digest.to_string(), file);
        digest
    }

    /// How often a picture was asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The file under a digest.
    pub fn file(&self, digest: &str) -> Vec<u8> {
        self.files.borrow()[digest].clone()
    }

    pub fn count(&self) -> usize {
        self.files.borrow().len()
    }

    /// Waits until so many files lie here.
    pub async fn holds(&self, count: usize) {
        let mut files = self.files.subscribe();
        soon("an upload", files.wait_for(|files| files.len() >= count)).await.unwrap();
    }

    /// Answers the next uploads with these, last first.
    pub fn refuse(&self, refusals: Vec<Status>) {
        *self.refusals.lock().unwrap() = refusals;
    }

    /// Lets uploads wait until they are let in.
    pub fn shut(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open(&self) {
        self.gate.add_permits(1000);
    }
}

struct Service {
    sessions: mpsc::UnboundedSender<Session>,
    shelf: Arc<Shelf>,
}

fn check_token<T>(request: &Request<T>) -> Result<(), Status> {
    let token = request.metadata().get("authorization").map(|value| value.as_bytes());
    if token == Some(format!("Bearer {TOKEN}").as_bytes()) {
        return Ok(());
    }
    Err(Status::unauthenticated("this is not the farm's worker token: copy it from the coordinator"))
}

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = ReceiverStream<Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        check_token(&request)?;
        let (tell, told) = mpsc::channel(100);
        self.sessions.send(Session { said: request.into_inner(), tell }).unwrap();
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        check_token(&request)?;
        let _permit = self.shelf.gate.acquire().await.unwrap();
        let (mut chunks, mut digest, mut file) = (request.into_inner(), String::new(), Vec::new());
        while let Some(chunk) = chunks.message().await? {
            digest.push_str(&chunk.artifact_digest);
            file.extend(chunk.chunk.unwrap().data);
        }
        if let Some(refusal) = self.shelf.refusals.lock().unwrap().pop() {
            return Err(refusal);
        }
        assert_eq!(ArtifactDigest::of_bytes(&file).to_string(), digest);
        let mut known = false;
        self.shelf.files.send_modify(|files| known = files.insert(digest, file).is_some());
        Ok(Response::new(v1::PutArtifactResponse { known }))
    }

    type FetchPictureStream = ReceiverStream<Result<v1::FetchPictureResponse, Status>>;

    async fn fetch_picture(
        &self,
        request: Request<v1::FetchPictureRequest>,
    ) -> Result<Response<Self::FetchPictureStream>, Status> {
        check_token(&request)?;
        self.shelf.asked.fetch_add(1, Ordering::Relaxed);
        let digest = request.into_inner().digest;
        let file = self.shelf.pictures.lock().unwrap().get(&digest).cloned();
        let file = file.ok_or_else(|| Status::not_found("the picture is not on the farm"))?;
        let (sender, chunks) = mpsc::channel(100);
        for data in file.chunks(100) {
            let chunk = Some(v1::Chunk { data: data.to_vec() });
            sender.send(Ok(v1::FetchPictureResponse { chunk })).await.unwrap();
        }
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn describe_package(
        &self,
        _: Request<v1::DescribePackageRequest>,
    ) -> Result<Response<v1::DescribePackageResponse>, Status> {
        Err(Status::not_found("this farm hands out nothing"))
    }

    type FetchModelFileStream = ReceiverStream<Result<v1::FetchModelFileResponse, Status>>;

    async fn fetch_model_file(
        &self,
        _: Request<v1::FetchModelFileRequest>,
    ) -> Result<Response<Self::FetchModelFileStream>, Status> {
        Err(Status::not_found("this farm hands out nothing"))
    }
}

impl Coordinator {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = mpsc::unbounded_channel();
        let shelf = Arc::new(Shelf::new());
        let service = WorkerServiceServer::new(Service { sessions: sender, shelf: Arc::clone(&shelf) });
        let incoming = TcpListenerStream::new(listener);
        let server = tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { address, shelf, sessions, server }
    }

    /// The next stream that a worker opens, not answered yet.
    pub async fn session(&mut self) -> Session {
        soon("a session", self.sessions.recv()).await.unwrap()
    }

    /// The next stream, with its Hello, welcomed.
    pub async fn welcome(&mut self) -> (Session, v1::Hello) {
        let mut session = self.session().await;
        let hello = session.hello().await;
        session.welcome().await;
        (session, hello)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One stream of a worker.
pub struct Session {
    said: Streaming<v1::SessionRequest>,
    tell: mpsc::Sender<Result<v1::SessionResponse, Status>>,
}

impl Session {
    pub async fn tell(&self, message: Told) {
        self.tell.send(Ok(v1::SessionResponse { message: Some(message) })).await.unwrap();
    }

    /// The next message; `None` when the worker has closed its side.
    pub async fn next(&mut self) -> Option<Said> {
        soon("a message", self.hear()).await
    }

    async fn hear(&mut self) -> Option<Said> {
        Some(self.said.message().await.ok()??.message.unwrap())
    }

    pub async fn hello(&mut self) -> v1::Hello {
        match self.next().await.unwrap() {
            Said::Hello(hello) => hello,
            other => panic!("{other:?} came before Hello"),
        }
    }

    pub async fn welcome(&self) {
        let welcome = v1::Welcome {
            epoch: 1,
            heartbeat_interval_ms: 100,
            lease_ttl_ms: 10_000,
            protocol: PROTOCOL,
            oldest_protocol: PROTOCOL,
        };
        self.tell(Told::Welcome(welcome)).await;
    }

    /// Passes over messages until there is one that `pick` takes.
    pub async fn find<T>(&mut self, pick: impl Fn(&Said) -> Option<T>) -> T {
        let looking = async {
            loop {
                let message = self.hear().await.expect("the worker closed the stream");
                if let Some(found) = pick(&message) {
                    return found;
                }
            }
        };
        soon("a message that was waited for", looking).await
    }

    pub async fn credit(&mut self) -> v1::Credit {
        self.find(|said| match said {
            Said::Credit(credit) => Some(*credit),
            _ => None,
        })
        .await
    }

    pub async fn progress_of(&mut self, lease: i64) -> v1::Progress {
        self.find(|said| match said {
            Said::Progress(progress) if progress.fence.unwrap().lease_id == lease => Some(progress.clone()),
            _ => None,
        })
        .await
    }

    pub async fn complete(&mut self) -> Complete {
        self.find(|said| match said {
            Said::Complete(complete) => Some(complete.clone()),
            _ => None,
        })
        .await
    }

    pub async fn drain(&mut self) {
        self.find(|said| matches!(said, Said::Drain(_)).then_some(())).await;
    }

    pub async fn grant(&self, grant: v1::Grant) {
        self.tell(Told::Grant(grant)).await;
    }

    pub async fn settle(&self, complete: &Complete) {
        let receptions = vec![v1::Reception::Accepted.into(); complete.images.len()];
        self.tell(Told::Settled(v1::Settled { fence: complete.fence, receptions })).await;
    }

    /// Waits until the worker has heard all that it was told: it answers a grant for a device that it
    /// does not have. Gives what it said meanwhile.
    pub async fn echo(&mut self) -> Vec<Said> {
        let fence = recipes::fence(1_000_000);
        let grant = v1::Grant { device: 99, ..recipes::grant(1_000_000, &[(0, "echo")]) };
        self.grant(grant).await;
        let mut meanwhile = Vec::new();
        loop {
            // Every message is taken, so that none of what was said meanwhile is lost.
            match self.find(|said| Some(said.clone())).await {
                Said::Complete(complete) if complete.fence == Some(fence) => {
                    assert!(failure(&complete).1.contains("no device 99"));
                    self.settle(&complete).await;
                    return meanwhile;
                }
                other => meanwhile.push(other),
            }
        }
    }
}

/// The indices of a completion's images.
pub fn indices(complete: &Complete) -> Vec<u64> {
    complete.images.iter().map(|image| image.index).collect()
}

/// Why a completion is not whole.
pub fn failure(complete: &Complete) -> (FailureClass, String) {
    let failure = complete.failure.as_ref().expect("the completion is whole");
    (failure.class(), failure.error.clone())
}

/// The lease of a completion.
pub fn lease_of(complete: &Complete) -> i64 {
    Fence::from(complete.fence.unwrap()).lease.0
}
