//! Several servers that stand in for one another: calls go to the one that is in charge.
//!
//! Which one that is, each tells through the gRPC health service: it serves a service that was agreed on, or
//! it does not. That is listened to on every server all the time, so that a server which has taken over is
//! known at once, even where the one before it is silent and its connection still stands. Calls that are under
//! way at the one before then end as [`Code::Unavailable`](tonic::Code::Unavailable); none is sent twice.

mod choice;
mod cut;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, StdError, http};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use self::choice::{Choice, Standing};
use self::cut::Cut;

/// How long a call waits for the servers to say what they are.
const SETTLE: Duration = Duration::from_secs(2);
/// Pause before a server that is away is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A connection to whichever server is in charge. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Replicas(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// There is no choice, and nothing is asked.
    One(Channel),
    Several(Arc<Several>),
}

#[derive(Debug)]
struct Several {
    channels: Vec<Channel>,
    choice: watch::Sender<Choice>,
    /// Listens to every server; ends with this.
    _listeners: JoinSet<()>,
}

impl Replicas {
    /// Takes one server for the only one.
    pub fn one(channel: Channel) -> Self {
        Self(Kind::One(channel))
    }

    /// Connects, as calls need it, to the one among `endpoints` that serves `service`. With several, this has
    /// to be called within a tokio runtime.
    ///
    /// # Panics
    /// If there is no endpoint.
    pub fn new(endpoints: &[Endpoint], service: &'static str) -> Self {
        let [endpoint] = endpoints else { return Self::several(endpoints, service) };
        Self::one(endpoint.connect_lazy())
    }

    fn several(endpoints: &[Endpoint], service: &'static str) -> Self {
        assert!(!endpoints.is_empty(), "there is at least one server to connect to");
        let channels: Vec<Channel> = endpoints.iter().map(Endpoint::connect_lazy).collect();
        let choice = watch::Sender::new(Choice::new(channels.len()));
        let mut listeners = JoinSet::new();
        for (index, channel) in channels.iter().enumerate() {
            listeners.spawn(listen(index, channel.clone(), service, choice.clone()));
        }
        Self(Kind::Several(Arc::new(Several { channels, choice, _listeners: listeners })))
    }

    /// Waits until a server is in charge, or for as long as `patience`. Answers whether any is there; of a
    /// single server that is not known.
    pub async fn ready(&self, patience: Duration) -> bool {
        let Kind::Several(several) = &self.0 else { return true };
        let mut choice = several.choice.subscribe();
        // Whoever is there by then has to do.
        let _ = timeout(patience, choice.wait_for(Choice::is_in_charge)).await;
        several.choice.borrow().is_there()
    }

    /// What becomes of the choice from now on.
    pub fn turns(&self) -> Turns {
        Turns(match &self.0 {
            Kind::One(_) => None,
            Kind::Several(several) => Some(several.choice.subscribe()),
        })
    }
}

/// Tells when another server is in charge.
#[derive(Debug)]
pub struct Turns(Option<watch::Receiver<Choice>>);

impl Turns {
    /// Forgets what happened until now.
    pub fn forget(&mut self) {
        if let Some(choice) = &mut self.0 {
            choice.mark_unchanged();
        }
    }

    /// Waits until a server has taken charge since.
    pub async fn next(&mut self) {
        if let Some(choice) = &mut self.0 {
            while choice.changed().await.is_ok() {
                if choice.borrow_and_update().is_in_charge() {
                    return;
                }
            }
        }
        std::future::pending().await
    }
}

/// Listens to what one server says of itself, for as long as anybody wants to know.
async fn listen(index: usize, channel: Channel, service: &'static str, choice: watch::Sender<Choice>) {
    loop {
        if let Err(fault) = hear(index, channel.clone(), service, &choice).await {
            tracing::debug!(server = index, error = %fault, "a server does not say whether it is in charge");
        }
        choice.send_if_modified(|choice| choice.note(index, Standing::Away));
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn hear(
    index: usize,
    channel: Channel,
    service: &str,
    choice: &watch::Sender<Choice>,
) -> Result<(), Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut answers = HealthClient::new(channel).watch(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let serves = answer.status() == ServingStatus::Serving;
        let standing = if serves { Standing::InCharge } else { Standing::Spare };
        choice.send_if_modified(|choice| choice.note(index, standing));
    }
    Ok(())
}

impl Several {
    async fn call(self: Arc<Self>, request: http::Request<Body>) -> Result<http::Response<Body>, StdError> {
        let mut choice = self.choice.subscribe();
        // One that says nothing, not even that it is away, is not waited for longer.
        let _ = timeout(SETTLE, choice.wait_for(Choice::is_settled)).await;
        let chosen = choice.borrow().chosen();
        let moved = Box::pin(async move {
            // The sender lives as long as this call's clone of it all does.
            let _ = choice.wait_for(|choice| choice.chosen() != chosen).await;
        });
        let mut cut = Cut::new(moved);
        let sent = send(self.channels[chosen].clone(), request);
        let response = tokio::select! {
            response = sent => response?,
            () = cut.moved() => return Err(cut::another_is_in_charge().into()),
        };
        Ok(response.map(|body| Body::new(cut.over(body, self))))
    }
}

async fn send(mut channel: Channel, request: http::Request<Body>) -> Result<http::Response<Body>, StdError> {
    poll_fn(|context| Service::poll_ready(&mut channel, context)).await?;
    Ok(channel.call(request).await?)
}

impl Service<http::Request<Body>> for Replicas {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Which channel has to be ready, a call itself finds out.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match &self.0 {
            Kind::One(channel) => Box::pin(send(channel.clone(), request)),
            Kind::Several(several) => Box::pin(Arc::clone(several).call(request)),
        }
    }
}
