//! One worker's stream: Hello, then credit, heartbeats, progress and completions as they come.

use std::sync::Arc;
use std::time::Duration;

use seedfarm_core::WorkerId;
use seedfarm_core::completion::Fence;
use seedfarm_core::quota::{Bucket, Quota};
use seedfarm_proto::v1::{self, session_request::Message as Asked, session_response::Message as Answer};
use seedfarm_proto::{OLDEST_PROTOCOL, PROTOCOL, error};
use seedfarm_store::{NewWorker, StoredFingerprint};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::super::jobs::Answers;
use super::complete::{self, Sender};
use super::{hello, progress, stocked, update};
use crate::board::{Introduction, Outbox, SessionId};
use crate::farm::Farm;
use crate::faults;
use crate::refusals::Reason;

/// Messages that may wait for a worker to read them; grants are bounded by its credit.
const AHEAD: usize = 1024;
/// How long a worker may take to say Hello.
const HELLO: Duration = Duration::from_secs(10);
/// Messages of one session. A large worker says some hundreds a second.
const MESSAGES: Quota = Quota { per_second: 2000.0, burst: 4000.0 };
/// How long a worker that says more stays away.
const COOL_OFF: Duration = Duration::from_secs(5);
/// Heartbeats after which a process that is silent does not stand in the way of another with its identity.
const BEATS: u32 = 2;
/// Completions of one worker that are checked at once.
const COMPLETIONS: usize = 16;

/// Opens a worker's stream. Faults, such as a Hello that is refused, end it with a status.
pub(super) fn open(
    farm: &Arc<Farm>,
    asked: Streaming<v1::SessionRequest>,
) -> Result<Answers<v1::SessionResponse>, Status> {
    let turn = Arc::clone(&farm.sessions).try_acquire_owned().map_err(|_| too_many())?;
    let (outbox, receiver) = mpsc::channel(AHEAD);
    // Room for the last word, which must reach a worker that lets all other room fill up.
    let last_word = outbox.clone().try_reserve_owned().map_err(|_| faults::stopping())?;
    let session = run(Arc::clone(farm), asked, outbox);
    farm.tasks.spawn(async move {
        if let Some(status) = session.await {
            last_word.send(Err(status));
        }
        drop(turn);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn too_many() -> Status {
    error::try_again("SESSIONS_BUSY", "as many workers as can be are connected: try again", COOL_OFF)
}

/// Answers why the session ended, where the worker should know.
async fn run(farm: Arc<Farm>, mut asked: Streaming<v1::SessionRequest>, outbox: Outbox) -> Option<Status> {
    let stopping = farm.stopping.clone();
    let greeted = tokio::select! {
        greeted = greet(&farm, &mut asked, &outbox) => greeted,
        () = stopping.cancelled() => Err(faults::stopping()),
    };
    match greeted {
        Ok(session) => session.listen(asked, outbox).await,
        Err(status) => Some(status),
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
    let worker = crate::services::read(&hello.worker_id)?;
    let protocol = hello::check_protocol(hello.protocol).map_err(|status| (Reason::Protocol, status));
    let read = protocol.and_then(|()| hello::read(hello).map_err(|status| (Reason::Hello, status)));
    let who = read.map_err(|(reason, status)| turn_away(farm, worker, reason, status))?;
    let fingerprint = store(farm, &who).await?;
    seat(farm, &who, outbox, fingerprint)
        .map_err(|status| turn_away(farm, worker, Reason::SecondProcess, status))
}

/// Counts and logs a Hello that is refused.
fn turn_away(farm: &Farm, worker: WorkerId, reason: Reason, status: Status) -> Status {
    farm.refusals.count(worker, reason);
    tracing::warn!(worker.id = %worker, reason = reason.as_str(), "a worker is turned away: {}", status.message());
    status
}

fn seat(
    farm: &Arc<Farm>,
    who: &Introduction,
    outbox: &Outbox,
    fingerprint: StoredFingerprint,
) -> Result<Session, Status> {
    let stop = CancellationToken::new();
    let mut board = farm.board();
    let patience = farm.timing.heartbeat * BEATS;
    if board.has_rival(who, patience, Instant::now()) {
        return Err(second_process(who.worker, patience));
    }
    // Welcome lies in the queue before anybody else can write to it.
    let welcome = v1::SessionResponse { message: Some(Answer::Welcome(welcome(farm))) };
    outbox.try_send(Ok(welcome)).map_err(|_| faults::stopping())?;
    let (id, vain) = board.connect(who, outbox.clone(), stop.clone(), Instant::now());
    revoke(&mut board, who.worker, vain);
    drop(board);
    tracing::info!(worker.id = %who.worker, worker.name = who.name, devices = who.devices.len(), "a worker connected");
    let completions = Arc::new(Semaphore::new(COMPLETIONS));
    let sender = Sender { worker: who.worker, fingerprint };
    Ok(Session { farm: Arc::clone(farm), sender, id, stop, completions })
}

fn second_process(worker: WorkerId, patience: Duration) -> Status {
    let message = format!(
        "another process is connected as {worker}: stop one of the two, or give this one a data folder of its own, \
         which holds its identity"
    );
    error::refused_for_now(Code::AlreadyExists, "WORKER_CONNECTED", message, patience)
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
        protocol: PROTOCOL,
        oldest_protocol: OLDEST_PROTOCOL,
    }
}

fn revoke(board: &mut crate::board::Board, worker: WorkerId, vain: Vec<Fence>) {
    for fence in vain {
        let reason = "the lease is not the worker's any more".to_owned();
        board.send(worker, Answer::Revoke(v1::Revoke { fence: Some(fence.into()), reason }));
    }
}

/// A session is ended for a later one of its worker, which needs no reason, or because its queue is full.
fn ended_by_board(outbox: &Outbox) -> Option<Status> {
    let message = "the worker did not read its messages: connect again";
    (outbox.capacity() == 0).then(|| error::try_again("SLOW_READER", message, Duration::from_secs(1)))
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
    /// Hears the worker until its stream ends, and answers why where the worker should know.
    async fn listen(self, mut asked: Streaming<v1::SessionRequest>, outbox: Outbox) -> Option<Status> {
        let begun = Instant::now();
        let mut allowance = Bucket::full(MESSAGES, Duration::ZERO);
        let ended = loop {
            let request = tokio::select! {
                request = asked.message() => request,
                () = self.stop.cancelled() => break ended_by_board(&outbox),
                () = outbox.closed() => break None,
                () = self.farm.stopping.cancelled() => break Some(faults::stopping()),
            };
            if allowance.take(MESSAGES, begun.elapsed()).is_err() {
                break Some(self.too_loud());
            }
            match request {
                Ok(Some(v1::SessionRequest { message: Some(message) })) => match self.hear(message).await {
                    Ok(()) => {}
                    Err(status) => break Some(status),
                },
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        self.farm.board().disconnect(self.sender.worker, self.id);
        self.farm.wake.notify_one();
        tracing::info!(worker.id = %self.sender.worker, "a worker's stream ended");
        ended
    }

    fn too_loud(&self) -> Status {
        self.farm.refusals.count(self.sender.worker, Reason::TooManyMessages);
        tracing::warn!(worker.id = %self.sender.worker, "the worker says too much; ending its session");
        let message = format!(
            "more than {} messages a second came: connect again later, and say less",
            MESSAGES.per_second
        );
        error::try_again("TOO_MANY_MESSAGES", message, COOL_OFF)
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
            Asked::Stocked(change) => {
                stocked::receive(&self.farm, self.sender.worker, self.id, change).await?;
            }
            Asked::Update(update) => self.update(update).await?,
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
        board.rest(self.sender.worker, self.id, update::resting(heartbeat.resting));
        let vain = board.renew(self.sender.worker, &held, Instant::now());
        revoke(&mut board, self.sender.worker, vain);
    }

    /// The owner changed what the worker takes.
    async fn update(&self, update: v1::Update) -> Result<(), Status> {
        let (acceptance, manifests) = update::read(update)?;
        self.farm.store.put_models(&manifests).await.map_err(faults::of_store)?;
        self.farm.board().update(self.sender.worker, self.id, acceptance, &manifests);
        self.farm.wake.notify_one();
        Ok(())
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
