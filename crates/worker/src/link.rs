//! The stream to the coordinator: opened, listened to, and opened again when it breaks.

use std::time::Duration;

use seedfarm_core::WorkerId;
use seedfarm_proto::v1;
use seedfarm_proto::v1::worker_service_client::WorkerServiceClient;
use seedfarm_runtime::{Bearer, Replicas, Turns};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Status, Streaming};

use crate::backoff::Backoff;
use crate::event::Event;
use crate::renderer::chain;

/// The coordinator's side of the worker service, with this worker's token.
pub(crate) type Client = WorkerServiceClient<InterceptedService<Replicas, Bearer>>;

/// Messages that may wait to be sent. Progress is dropped before this is full.
const OUTBOUND: usize = 1024;

/// How long the coordinator may take to say its first word.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// Keeps a stream up until the node is gone, or the coordinator refuses this worker for good.
pub(crate) struct Link {
    pub client: Client,
    /// Tells when another coordinator has taken over.
    pub turns: Turns,
    pub events: mpsc::Sender<Event>,
    pub worker: WorkerId,
    pub backoff: Backoff,
}

impl Link {
    pub(crate) async fn keep_up(mut self) {
        let mut attempt = 0;
        loop {
            let (outbound, requests) = mpsc::channel(OUTBOUND);
            let close = CancellationToken::new();
            if self.events.send(Event::Opening { outbound, close: close.clone() }).await.is_err() {
                return;
            }
            let mut heard = false;
            self.turns.forget();
            let end = tokio::select! {
                () = close.cancelled() => Status::cancelled("the worker closed the stream"),
                end = self.converse(requests, &mut heard) => end,
            };
            attempt = if heard { 0 } else { attempt };
            if is_final(end.code(), heard) {
                let _ = self.events.send(Event::Refused(Box::new(end))).await;
                return;
            }
            if self.events.send(Event::Closed).await.is_err() {
                return;
            }
            self.wait(attempt, &end).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Waits for a while, or until another coordinator has taken over. One that is a standby is left soon; any
    /// other's wish is met.
    async fn wait(&mut self, attempt: u32, end: &Status) {
        let delay = self.backoff.delay_after(attempt, self.worker, end);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            worker.id = %self.worker, attempt, delay_ms, error = chain(end),
            "no stream to the coordinator; trying again"
        );
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // Not all workers at the same moment.
            () = self.turns.next() => tokio::time::sleep(self.backoff.delay(0, self.worker)).await,
            () = self.events.closed() => {}
        }
    }

    /// One stream, from its opening to its end.
    async fn converse(&mut self, requests: mpsc::Receiver<v1::SessionRequest>, heard: &mut bool) -> Status {
        let opening = async {
            let mut stream = self.client.session(ReceiverStream::new(requests)).await?.into_inner();
            let first = next(&mut stream).await?;
            Ok((stream, first))
        };
        let opened: Result<_, Status> = match tokio::time::timeout(FIRST_WORD, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Status::deadline_exceeded("the coordinator does not answer")),
        };
        let (mut stream, mut message) = match opened {
            Ok(opened) => opened,
            Err(status) => return status,
        };
        *heard = true;
        loop {
            if self.events.send(Event::Heard(message)).await.is_err() {
                return Status::cancelled("the worker is leaving");
            }
            message = match next(&mut stream).await {
                Ok(message) => message,
                Err(status) => return status,
            };
        }
    }
}

/// The next message; the stream's end is an error. Messages of a later version are passed over.
async fn next(stream: &mut Streaming<v1::SessionResponse>) -> Result<v1::session_response::Message, Status> {
    loop {
        let response = stream.message().await?;
        match response.ok_or_else(|| Status::unavailable("the coordinator closed the stream"))?.message {
            Some(message) => return Ok(message),
            None => tracing::debug!("the coordinator said something that this version does not know"),
        }
    }
}

/// Whether the coordinator will not have this worker however often it asks: it refuses the token at any
/// time, or the Hello.
const fn is_final(code: Code, heard: bool) -> bool {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => true,
        Code::InvalidArgument | Code::Unimplemented => !heard,
        _ => false,
    }
}

/// Whether asking again cannot help. Damage on the way may not come twice.
pub(crate) const fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}
