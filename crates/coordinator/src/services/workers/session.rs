//! One worker's stream: Hello, then credit, heartbeats, progress and completions as they come.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::WorkerId;
use seedfarm_core::completion::Fence;
use seedfarm_proto::error;
use seedfarm_proto::v1::{self, session_request::Message as Asked, session_response::Message as Answer};
use seedfarm_store::{NewWorker, StoredFingerprint};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::super::jobs::Answers;
use super::complete::{self, Sender};
use super::{hello, progress};
use crate::board::{Introduction, Outbox, SessionId};
use crate::farm::Farm;
use crate::faults;

/// Messages that may wait for a worker to read them; grants are bounded by its credit.
const AHEAD: usize = 1024;
/// How long a worker may take to say Hello.
const HELLO: Duration = Duration::from_secs(10);
/// Completions of one worker that are checked at once.
const COMPLETIONS: usize = 16;

/// Opens a worker's stream. Faults, such as a Hello that is refused, end it with a status.
pub(super) fn open(farm: &Arc<Farm>, asked: Streaming<v1::SessionRequest>) -> Answers<v1::SessionResponse> {
    let (outbox, receiver) = mpsc::channel(AHEAD);
    farm.tasks.spawn(run(Arc::clone(farm), asked, outbox));
    Box::pin(ReceiverStream::new(receiver))
}

async fn run(farm: Arc<Farm>, mut asked: Streaming<v1::SessionRequest>, outbox: Outbox) {
    let stopping = farm.stopping.clone();
    let greeted = tokio::select! {
        greeted = greet(&farm, &mut asked, &outbox) => greeted,
        () = stopping.cancelled() => Err(faults::stopping()),
    };
    match greeted {
        Ok(session) => session.listen(asked, outbox).await,
        // A worker that is gone, or does not read, needs no reason.
        Err(status) => drop(outbox.try_send(Err(status))),
    }
}

/// Reads Hello, stores who and what it brings, and seats the worker on the board.
async fn greet(
    farm: &Arc<Farm>,
    asked: &mut Streaming<v1::SessionRequest>,
    outbox: &Outbox,
) -> Result<Session, Status> {
    let late = |_| error::status(Code::DeadlineExceeded, "NO_HELLO", "the worker did not say Hello in time");
    let first = timeout(HELLO, asked.message()).await.map_err(late)??;
    let Some(Asked::Hello(hello)) = first.and_then(|request| request.message) else {
        return Err(error::status(Code::InvalidArgument, "NO_HELLO", "the first message must be Hello"));
    };
    let who = hello::read(hello)?;
    let fingerprint = store(farm, &who).await?;
    // Welcome lies in the queue before anybody else can write to it.
    let welcome = v1::SessionResponse { message: Some(Answer::Welcome(welcome(farm))) };
    outbox.send(Ok(welcome)).await.map_err(|_| faults::stopping())?;
    Ok(seat(farm, &who, outbox, fingerprint))
}

fn seat(farm: &Arc<Farm>, who: &Introduction, outbox: &Outbox, fingerprint: StoredFingerprint) -> Session {
    let stop = CancellationToken::new();
    let mut board = farm.board();
    let (id, vain) = board.connect(who, outbox.clone(), stop.clone(), Instant::now());
    revoke(&mut board, who.worker, vain);
    drop(board);
    tracing::info!(worker.id = %who.worker, worker.name = who.name, devices = who.devices.len(), "a worker connected");
    let completions = Arc::new(Semaphore::new(COMPLETIONS));
    let sender = Sender { worker: who.worker, fingerprint };
    Session { farm: Arc::clone(farm), sender, id, stop, completions }
}

/// Stores the worker, its models and its fingerprints, of which one is answered. A database that is down
/// refuses the Hello; the worker tries again.
async fn store(farm: &Farm, who: &Introduction) -> Result<StoredFingerprint, Status> {
    let worker = NewWorker { id: who.worker, name: who.name.clone(), version: who.version.clone() };
    farm.store.upsert_worker(&worker).await.map_err(faults::of_store)?;
    farm.store.put_models(&who.manifests).await.map_err(faults::of_store)?;
    farm.store.put_adapters(&who.adapters).await.map_err(faults::of_store)?;
    let mut stored = None;
    for fingerprint in who.devices.iter().flat_map(|device| &device.fingerprints) {
        stored = Some(farm.store.put_fingerprint(fingerprint).await.map_err(faults::of_store)?);
    }
    stored.ok_or_else(|| error::missing("a fingerprint of any device"))
}

fn welcome(farm: &Farm) -> v1::Welcome {
    let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    v1::Welcome {
        epoch: farm.epoch().0,
        heartbeat_interval_ms: ms(farm.timing.heartbeat),
        lease_ttl_ms: ms(farm.timing.lease_ttl),
    }
}

fn revoke(board: &mut crate::board::Board, worker: WorkerId, vain: Vec<Fence>) {
    for fence in vain {
        let reason = "the lease is not the worker's any more".to_owned();
        board.send(worker, Answer::Revoke(v1::Revoke { fence: Some(fence.into()), reason }));
    }
}

/// A worker that was greeted.
struct Session {
    farm: Arc<Farm>,
    sender: Sender,
    id: SessionId,
    /// Cancelled when the board ends the session.
    stop: CancellationToken,
    completions: Arc<Semaphore>,
}

impl Session {
    async fn listen(self, mut asked: Streaming<v1::SessionRequest>, outbox: Outbox) {
        let ended = loop {
            let request = tokio::select! {
                request = asked.message() => request,
                () = self.stop.cancelled() => break None,
                () = outbox.closed() => break None,
                () = self.farm.stopping.cancelled() => break Some(faults::stopping()),
            };
            match request {
                Ok(Some(v1::SessionRequest { message: Some(message) })) => match self.hear(message).await {
                    Ok(()) => {}
                    Err(status) => break Some(status),
                },
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break None,
            }
        };
        self.farm.board().disconnect(self.sender.worker, self.id);
        self.farm.wake.notify_one();
        tracing::info!(worker.id = %self.sender.worker, "a worker's stream ended");
        if let Some(status) = ended {
            // A worker that is gone, or does not read, needs no reason.
            let _ = outbox.try_send(Err(status));
        }
    }

    async fn hear(&self, message: Asked) -> Result<(), Status> {
        match message {
            Asked::Hello(_) => {
                return Err(error::status(Code::InvalidArgument, "SECOND_HELLO", "Hello came twice"));
            }
            Asked::Credit(credit) => {
                self.farm.board().credit(self.sender.worker, self.id, credit.device, credit.leases);
                self.farm.wake.notify_one();
            }
            Asked::Heartbeat(heartbeat) => self.beat(heartbeat),
            Asked::Progress(progress) => progress::pass_on(&self.farm, self.sender.worker, progress),
            Asked::Complete(complete) => self.complete(complete).await,
            Asked::Drain(_) => {
                self.farm.board().stop_worker(self.sender.worker);
                self.farm.wake.notify_one();
            }
        }
        Ok(())
    }

    fn beat(&self, heartbeat: v1::Heartbeat) {
        let held: Vec<Fence> = heartbeat.held.into_iter().map(Into::into).collect();
        let mut board = self.farm.board();
        let vain = board.renew(self.sender.worker, &held, Instant::now());
        revoke(&mut board, self.sender.worker, vain);
    }

    /// Checks and stores a completion beside the stream, so that heartbeats go on being heard.
    async fn complete(&self, complete: v1::Complete) {
        let Ok(turn) = Arc::clone(&self.completions).acquire_owned().await else { return };
        let (farm, sender) = (Arc::clone(&self.farm), self.sender);
        self.farm.tasks.spawn(async move {
            complete::receive(&farm, sender, complete).await;
            drop(turn);
        });
    }
}
